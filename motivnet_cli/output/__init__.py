"""Predictions -> rows in Parquet, kept safe."""
