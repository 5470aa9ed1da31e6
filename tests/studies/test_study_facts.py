from dataclasses import replace

from transxnet.studies.study_facts import CAUTION, describe_method, list_notes


def test_method_states_the_facts(whole):
    method = describe_method(whole)
    for fact in (
        "24 images of 2 classes (defect 8, intact 16) in 12 groups",
        "2 arms was trained in 2-fold cross-validation, stratified by class, with the images of a group in one fold",
        "2 seeds (0, 1)",
        "about 30% of the other images, whole groups, chose the epoch (highest validation accuracy), the threshold of "
        "the class defect",
        "from 100 bootstrap resamples of groups",
        "AUROC: paired bootstrap",
        f"torch {whole.environment['torch']}",
        "Precision of the trainings: 32-true.",
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


def test_method_states_what_the_trainings_share(whole):
    assert "Each training: from random weights, 1 epoch, batches of" in describe_method(whole)
    first = whole.arms[0]
    pretrained = replace(first, arm=replace(first.arm, options={**first.arm.options, "pretrained": True}))
    method = describe_method(replace(whole, arms=[pretrained, *whole.arms[1:]]))
    assert "Each training: 1 epoch, batches of" in method


def test_notes_warn_of_few_groups_and_of_temperatures_at_a_limit(whole):
    def note_on_temperatures(temperature):
        arms = [
            replace(
                arm, folds=[replace(each, choices=replace(each.choices, temperature=temperature)) for each in arm.folds]
            )
            for arm in whole.arms
        ]
        return [note for note in list_notes(replace(whole, arms=arms)) if note.startswith("The temperature")]

    assert "The intervals, of resamples of 12 groups, are too narrow: 30 or more are needed." in list_notes(whole)
    assert note_on_temperatures(1.3) == []
    (note,) = note_on_temperatures(20.0)
    runs = sum(len(arm.folds) for arm in whole.arms)
    assert note.startswith(f"The temperature of {runs} of {runs} runs is at a limit (0.05 or 20)")
