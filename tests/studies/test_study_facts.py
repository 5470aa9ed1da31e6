from dataclasses import replace

from transxnet.studies.study_facts import CAUTION, describe_method, list_notes


def test_method_states_the_facts(whole):
    method = describe_method(whole)
    for fact in (
        "24 images of 2 classes (defect 8, intact 16) in 12 groups",
        "2 arms was trained in 2-fold cross-validation, stratified by class, with the images of a group in one fold",
        "2 seeds (0, 1)",
        "30% of the other images chose the epoch (highest validation accuracy), the threshold of the class defect",
        "from 100 bootstrap resamples of groups",
        "AUROC: paired bootstrap",
        f"torch {whole.environment['torch']}",
    ):
        assert fact in method


def test_notes_depend_on_the_study(whole):
    notes = list_notes(whole)
    assert CAUTION in notes
    assert any("those of the class defect" in note for note in notes)
    assert any("evaluated once with the models of all folds and seeds" in note for note in notes)
    alone = replace(whole, comparisons=[], external=None, folder=replace(whole.folder, seeds=(0,), positive=None))
    notes = list_notes(alone)
    assert CAUTION not in notes
    assert any(note.startswith("One seed") for note in notes)
    assert any("means over the classes" in note for note in notes)
