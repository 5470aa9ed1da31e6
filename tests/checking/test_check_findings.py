"""Findings by kind, and their actions."""

from transxnet.checking.check_findings import DataFinding, Kind, by_kind


def test_findings_are_grouped_in_the_order_of_the_kinds():
    tiny = DataFinding(Kind.BOX_TINY, (1,), "small")
    leaks = [
        DataFinding(Kind.EXACT_LEAK, (0, 5), "1 train, 1 val", (0,)),
        DataFinding(Kind.EXACT_LEAK, (2, 6), "", (2,)),
    ]
    assert by_kind([tiny, *leaks]) == {Kind.EXACT_LEAK: leaks, Kind.BOX_TINY: [tiny]}
    assert list(by_kind([tiny, *leaks])) == [Kind.EXACT_LEAK, Kind.BOX_TINY]
    assert [leaks[0].action(n) for n in (0, 5)] == ["exclude", "review"]


def test_keys_of_the_kinds_are_unique():
    assert len({kind.key for kind in Kind}) == len(Kind)
