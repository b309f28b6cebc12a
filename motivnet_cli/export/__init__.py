"""Results and models in the forms that people use next."""
