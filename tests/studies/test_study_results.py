from transxnet.metrics.publication_metrics import PUBLICATION_METRICS


def test_result_names_its_metrics_and_arms(whole):
    assert whole.metrics == list(PUBLICATION_METRICS)
    assert whole.of("test_vit").arm.model == "test_vit"
    assert whole.best in whole.estimates
    assert {each.metric for each in whole.comparisons} == {"auroc", "accuracy"}
    assert {each.arm for each in whole.comparisons} == {arm.arm.name for arm in whole.arms} - {whole.best}
