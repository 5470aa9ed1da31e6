import re

from tests.helpers.html_page import Page


def test_page_has_all_sections_without_outside_resources(whole):
    text = (whole.folder.path / "study.html").read_text()
    page = Page(text)
    for section in (
        "results",
        "comparisons",
        "test",
        "curves",
        "calibration",
        "confusion",
        "learning",
        "hardest",
        "method",
    ):
        assert page.text[section].strip(), section
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r'(?:src|href)="https?:', text)
    assert text.count("data:image/jpeg") == 12


def test_page_shows_values_with_intervals_and_the_caution(whole):
    page = Page((whole.folder.path / "study.html").read_text())
    value = whole.estimates["test_vit"]["auroc"]
    assert f"{value.value:.3f} {value.low:.3f} to {value.high:.3f}" in page.text["results"]
    assert "does not show that two arms are equal" in page.text["comparisons"]
    assert "2-fold cross-validation" in page.text["method"]


def test_hardest_image_has_the_lowest_mean_probability(whole):
    page = Page((whole.folder.path / "study.html").read_text())
    models = [pooled for arm in whole.arms for pooled in arm.pooled]
    labels = whole.folds.labels
    mean = sum(pooled.probabilities[range(24), labels] for pooled in models) / 4
    first = whole.folds.names[int(mean.argmin())]
    assert re.search(r"\d of 4 models wrong, (\S+)", page.text["hardest"])[1] == first
