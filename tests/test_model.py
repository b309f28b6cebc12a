"""The networks agree with their references and keep what their interface promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from motivnet_cli.model import ExpressionNet, MotivNet, MotivNetSizes, SapiensEmbedder, SapiensSizes, sapiens
from motivnet_cli.model.attention import attention_in_blocks
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.networks import load_checkpoint, load_expression_net

GOLDEN = Path(__file__).parent / "golden"
TINY = MotivNetSizes(width=32, depth=2, heads=4, mlp=64, decoder_width=32, decoder_ffn=48, grid_height=8, grid_width=6)


def random_motivnet(sizes: MotivNetSizes = TINY) -> MotivNet:
    """A network with every parameter random, norms and biases too."""
    network = MotivNet(sizes).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter.normal_(0, 0.3, generator=generator)
    return network


def random_embedder() -> SapiensEmbedder:
    """The encoder of `random_motivnet` alone."""
    motivnet = random_motivnet()
    network = SapiensEmbedder(TINY).eval().requires_grad_(False)
    network.encoder.load_state_dict(motivnet.encoder.state_dict())
    return network


def random_pixels(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def golden(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def test_motivnet_agrees_with_the_reference():
    """Features, logits and probabilities of the tiny golden network are the reference's within 1e-4."""
    expected = golden("motivnet_tiny_7.npz")
    network = load_checkpoint(GOLDEN / "motivnet_tiny_7.safetensors")

    features = network.forward_features(expected["normalised_input"])
    logits = network.forward_head(features)

    assert_close(features, expected["features"], atol=1e-4, rtol=0)
    assert_close(logits, expected["logits"], atol=1e-4, rtol=0)
    assert_close(logits.softmax(1), expected["probs"], atol=1e-4, rtol=0)


def test_expression_net_agrees_with_the_reference():
    """Logits and probabilities of the embedded network are the reference's within 1e-4."""
    expected = golden("expression_golden.npz")
    network = load_expression_net()

    logits = network.forward_head(network.forward_features(expected["normalised_input"]))

    assert_close(logits, expected["logits"], atol=1e-4, rtol=0)
    assert_close(logits.softmax(1), expected["probs"], atol=1e-4, rtol=0)


def test_motivnet_normalises_pixels_itself():
    """forward of uint8 pixels is forward_features and forward_head of pixels normalised by hand."""
    network = random_motivnet()
    pixels = random_pixels(2, 128, 96)

    logits, embedding = network(pixels)

    mean = torch.tensor([123.5, 116.5, 103.5])[:, None, None]
    std = torch.tensor([58.5, 57.0, 57.5])[:, None, None]
    features = network.forward_features((pixels.float() - mean) / std)
    assert_close(logits, network.forward_head(features))
    assert_close(embedding, features.mean((2, 3)))


def test_the_encoder_alone_embeds_as_motivnet_does():
    """Without a head there are no logits, and the embedding and its image rows are MotivNet's."""
    embedder, motivnet = random_embedder(), random_motivnet()
    embedder.image_rows = motivnet.image_rows = (1, 7)
    pixels = random_pixels(2, 128, 96)

    logits, embedding = embedder(pixels)

    assert (logits.shape, logits.dtype, embedder.classes) == ((2, 0), torch.float32, ())
    assert logits.softmax(1).shape == (2, 0)
    assert torch.equal(embedding, motivnet(pixels)[1])
    encoder_names = {name for name in motivnet.state_dict() if name.startswith("encoder.")}
    assert set(embedder.state_dict()) == encoder_names


def test_expression_net_normalises_pixels_itself():
    """forward of uint8 pixels is forward_features and forward_head of pixels normalised by hand."""
    network = load_expression_net()
    pixels = random_pixels(2, 112, 112)

    logits, embedding = network(pixels)

    mean = torch.tensor([122.782, 117.001, 104.298])[:, None, None]
    by_hand = network.forward_features((pixels.float() - mean) / 255)
    assert embedding.shape == (2, 256)
    assert_close(embedding, by_hand)
    assert_close(logits, network.forward_head(by_hand))


def test_embedding_counts_only_the_image_rows():
    """With image rows set, the embedding is the mean over those token rows, and logits do not move."""
    network = random_motivnet()
    pixels = random_pixels(2, 128, 96)
    logits_of_all, embedding_of_all = network(pixels)

    network.image_rows = (1, 7)
    logits, embedding = network(pixels)

    features = network.forward_features((pixels - network.mean) / network.std)
    assert_close(embedding, features[:, :, 1:7].flatten(2).mean(2))
    assert_close(logits, logits_of_all)
    assert not torch.allclose(embedding, embedding_of_all, atol=1e-3)


@pytest.mark.parametrize("make", [random_motivnet, random_embedder, load_expression_net])
def test_a_face_does_not_depend_on_its_neighbours(make):
    """A batch of three gives what three batches of one give, within 1e-5."""
    network = make()
    pixels = random_pixels(3, network.input_height, network.input_width)

    logits, embedding = network(pixels)

    alone = [network(pixels[i : i + 1]) for i in range(3)]
    assert_close(logits, torch.cat([each[0] for each in alone]), atol=1e-5, rtol=1e-5)
    assert_close(embedding, torch.cat([each[1] for each in alone]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(embedding[0], embedding[1], atol=1e-3)


def test_self_attention_is_softmax_attention():
    """The encoder's attention equals softmax(q k' / sqrt(d)) v written out."""
    attention = random_motivnet().encoder.blocks[0].attention
    x = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(3))

    actual = attention(x)

    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).split(32, dim=2)
    assert_close(actual, attention.out(softmax_attention(q, k, v, heads=4)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_attention_in_blocks_is_attention(num_threads):
    """It equals torch's own, with heads and rows that blocks do not divide."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = torch.randn(2, 300, 3, 3, 16, generator=generator).permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        actual = attention_in_blocks(q, k, v)
    finally:
        torch.set_num_threads(before)

    assert_close(actual, functional.scaled_dot_product_attention(q, k, v), atol=1e-5, rtol=1e-5)
    assert actual.transpose(1, 2).is_contiguous()
    planned = attention_in_blocks(*(each.to("meta") for each in (q, k, v)))  # what torch.compile asks
    assert (planned.shape, planned.stride()) == (actual.shape, actual.stride())


def test_an_encoder_in_blocks_gives_the_same_features(monkeypatch):
    """Attention and MLPs take some tokens at a time, and nothing else changes."""
    network = random_embedder()
    pixels = random_pixels(2, network.input_height, network.input_width)
    _, expected = network(pixels)
    for block in network.encoder.blocks:
        block.attention.in_blocks = True
    monkeypatch.setattr(sapiens, "_MLP_ROWS", 20)  # of 48

    assert_close(network(pixels)[1], expected, atol=1e-5, rtol=1e-5)


def test_cross_attention_is_softmax_attention():
    """The head's attention takes queries from the classes, keys and values from the tokens."""
    attention = random_motivnet().head.layers[0].attention
    generator = torch.Generator().manual_seed(3)
    x, tokens = torch.randn(2, 7, 32, generator=generator), torch.randn(2, 48, 32, generator=generator)

    actual = attention(x, tokens)

    wq, wk, wv = attention.qkv.weight.chunk(3)
    bq, bk, bv = attention.qkv.bias.chunk(3)
    mixed = softmax_attention(x @ wq.T + bq, tokens @ wk.T + bk, tokens @ wv.T + bv, heads=8)
    assert_close(actual, attention.out(mixed), atol=1e-5, rtol=1e-5)


def test_the_head_doubles_its_query():
    """A decoder layer is the post-norm steps written out, on twice the query; small queries show the two."""
    layer = random_motivnet().head.layers[0]
    generator = torch.Generator().manual_seed(3)
    x, tokens = 1e-3 * torch.randn(2, 7, 32, generator=generator), torch.randn(2, 48, 32, generator=generator)

    actual = layer(x, tokens)

    step = layer.norm1(2 * x)
    step = layer.norm2(step + layer.attention(step, tokens))
    assert_close(actual, layer.norm3(step + layer.down(layer.up(step).clamp(min=0))))


def softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, heads: int) -> torch.Tensor:
    size = q.shape[2] // heads
    mixed = []
    for start in range(0, q.shape[2], size):
        part = slice(start, start + size)
        scores = q[:, :, part] @ k[:, :, part].transpose(1, 2) / size**0.5
        mixed.append(scores.softmax(2) @ v[:, :, part])
    return torch.cat(mixed, dim=2)


def test_full_size_is_the_published_size():
    """The default sizes make 518 tensors and 1,161,033,863 parameters, for 1024 x 768 pixels."""
    with torch.device("meta"):
        network = MotivNet(MotivNetSizes())

    assert len(network.state_dict()) == 518
    assert sum(p.numel() for p in network.parameters()) == 1_161_033_863
    assert sum(p.numel() for p in network.encoder.parameters()) == 1_139_163_648
    assert (network.input_height, network.input_width, network.embedding_size) == (1024, 768, 1536)
    with torch.device("meta"):
        embedder = SapiensEmbedder(SapiensSizes())
    assert sum(p.numel() for p in embedder.parameters()) == 1_139_163_648
    assert (embedder.input_height, embedder.input_width, embedder.embedding_size) == (1024, 768, 1536)
    assert network.classes == EMOTIONS


@pytest.mark.parametrize(
    "make", [lambda: MotivNet(TINY), lambda: SapiensEmbedder(TINY), lambda: ExpressionNet(classes=EMOTIONS)]
)
def test_normalisation_is_real_on_the_meta_device(make):
    """Built on the meta device, buffers still hold numbers, and none of them enters the state_dict."""
    with torch.device("meta"):
        network = make()

    assert all(parameter.is_meta for parameter in network.parameters())
    assert not any(buffer.is_meta for buffer in network.buffers())
    assert not {name for name, _ in network.named_buffers()} & set(network.state_dict())


@pytest.mark.parametrize("make", [random_motivnet, random_embedder, load_expression_net])
@pytest.mark.parametrize("shape", [(1, 3, 96, 128), (1, 1, 128, 96), (1, 1, 112, 112), (1, 3, 64, 64)])
def test_pixels_of_another_size_are_refused(make, shape):
    """Pixels of another size are an error, height and width exchanged too (as many tokens, all wrong)."""
    with pytest.raises(ValueError, match=r"the network takes \[B, 3, \d+, \d+\]"):
        make()(torch.zeros(shape, dtype=torch.uint8))


def test_class_names_must_be_as_many_as_logits():
    """A network of seven logits takes no eight names."""
    with pytest.raises(ValueError, match="7 classes need as many names, got 8"):
        MotivNet(TINY, classes=(*EMOTIONS, "contempt"))
