import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.prediction_data import CLASSES, IMAGE_COUNT, write_classifier_run
from transxnet.data.reading.image_decoding import open_image
from transxnet.runs.load import load_model


def test_table_equals_the_network_on_single_images(run, images, table):
    rows = pq.read_table(table()).to_pylist()
    expected = sorted(str(path) for path in images.glob("*.png")) + sorted(map(str, images.glob("deeper/*")))
    assert [row["path"] for row in rows] == expected
    trained = load_model(run)
    transform, model = trained.preprocessing.transform(), trained.model
    for row in rows:
        if row["path"].endswith("broken.png"):
            assert "truncated" in row["error"]
            assert all(row[name] is None for name in row if name not in ("path", "error"))
            continue
        shares = model(transform(open_image(row["path"]))[None])[0].softmax(0)
        order = shares.argsort(descending=True).tolist()
        assert [row[f"class{i}"] for i in (1, 2, 3)] == [CLASSES[i] for i in order]
        found = [row[f"probability{i}"] for i in (1, 2, 3)]
        np.testing.assert_allclose(found, shares[order].tolist(), atol=1e-5)
        assert row["error"] is None
    assert len({row["class1"] for row in rows}) == 4  # null for the broken image; the model tells images apart


def test_pandas_reads_the_columns_and_their_types(table, run):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(table(top_k=2))
    assert list(frame) == ["path", "class1", "probability1", "class2", "probability2", "error"]
    assert frame["probability1"].dtype == "float32"
    assert frame[frame["error"].isna()].groupby("class1").size().sum() == IMAGE_COUNT - 1
    metadata = pq.read_schema(table("again.parquet", top_k=2)).metadata[b"transxnet"]
    assert str(run) in metadata.decode()


def test_results_do_not_depend_on_the_number_of_workers(table):
    assert table("a.parquet").read_bytes() == table("b.parquet", workers=2).read_bytes()


@pytest.mark.parametrize(("embed", "tolerance"), [(True, 1e-5), ("float16", 1e-3)])
def test_embedding_is_the_input_of_the_classifier_layer(tmp_path, images, table, embed, tolerance):
    nano = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=32)
    run = write_classifier_run(tmp_path / "run", "transxnet_n", **nano)
    rows = pq.read_table(table(model=run, inputs=images / "deeper", embed=embed)).to_pylist()
    assert [row["embedding"] is None for row in rows] == [False, True]
    trained = load_model(run)
    pixels = trained.preprocessing.transform()(open_image(rows[0]["path"]))[None]
    pooled = trained.model.forward_features(pixels).mean((2, 3))[0].tolist()
    np.testing.assert_allclose(rows[0]["embedding"], pooled, rtol=tolerance, atol=tolerance)
    classifier = trained.model.get_classifier()
    logits = classifier.weight.detach().numpy() @ rows[0]["embedding"] + classifier.bias.detach().numpy()
    assert rows[0]["class1"] == CLASSES[logits.argmax()]
