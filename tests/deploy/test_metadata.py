"""Metadata as text."""

from transxnet.deploy.metadata import Metadata


def test_metadata_survives_a_round_trip():
    metadata = Metadata(
        task="detect",
        model="transxnet_t",
        source="runs/ü",
        class_names=["1", 'quo"te', "日本"],
        input="uint8",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=(64, 96),
        batch=1,
        dynamic=("height", "width"),
        resize={"min_size": 64, "max_size": 96, "multiple": 32, "fill": [0.485, 0.456, 0.406]},
        outputs=("boxes", "labels", "scores"),
        score_threshold=0.05,
        dtype="float32",
        versions={"torch": "2.15.0"},
    )
    texts = metadata.to_texts()
    assert all(isinstance(text, str) for text in texts.values())
    assert Metadata.from_texts(texts) == metadata
