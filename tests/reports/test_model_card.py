import json

import yaml

from transxnet.reports.model_card import model_card


def test_card_states_the_results_of_the_run(photos_run):
    text = model_card(photos_run)
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    metadata, results = yaml.safe_load(front), json.loads(photos_run.results_file.read_text())
    assert metadata["pipeline_tag"] == "image-classification"
    stated = {entry["type"]: entry["value"] for entry in metadata["model-index"][0]["results"][0]["metrics"]}
    assert stated["accuracy"] == round(results["accuracy"], 4)
    assert f"| accuracy | {results['accuracy']:.1%} |" in body
    assert f"On {results['images']} validation images" in body
    assert "optimistic" in body


def test_card_of_the_folder_loads_the_folder(photos_run):
    assert (photos_run.path / "README.md").read_text() == model_card(photos_run)
    assert 'transxnet.load(".")' in model_card(photos_run)


def test_card_of_a_detector_loads_from_the_hub(boxes_run):
    assert 'transxnet.load(snapshot_download("me/boxes"))' in model_card(boxes_run, "me/boxes")
