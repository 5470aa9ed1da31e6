"""The paper's ablation tables (Sec. IV-D, Tables VI to X): their rows, and quotes from the paper's text.

We do not have the values of these tables. The rows are those that the text names; the only published values are in the
quotes. In each table, "full" and the paper's own part are TransXNet itself; in Table VI they are the Swin-style network
with the D-Mixer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transxnet.utils.errors import UserError, nearest
from transxnet.utils.files import safe_file_name


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        name: name on the command line and in the names of run folders.
        label: label of the row in tables.
        options: model options as after the model's name: ``"local_conv=dyconv"``; empty for the unchanged model.
        quotes: quotes from the paper on this row, each with its section.
    """

    name: str
    label: str
    options: str
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """A set of variants of one model, to train under equal conditions.

    Attributes:
        name: name on the command line and in the names of folders.
        title: title of the table.
        model: default model to vary.
        variants: the rows.
        note: note on the published table as a whole.
    """

    name: str
    title: str
    model: str
    variants: tuple[Variant, ...]
    note: str = ""

    def choose(self, rows: Sequence[str] | None) -> "Ablation":
        """Choose rows, in this order; by default all.

        Args:
            rows: names of rows, or new rows: a model option as option=value, several joined by +.

        Raises:
            UserError: a row is unknown or occurs twice, or no row is given.
        """
        if rows is None:
            return self
        if not rows:
            raise UserError(f"no rows of {self.name} given. Accepted: {self._accepted}.")
        chosen = tuple(self._variant(row.strip()) for row in rows)
        names = [variant.name for variant in chosen]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"row {twice[0]!r} is given twice. Give each row once.")
        return replace(self, variants=chosen)

    @property
    def _accepted(self) -> str:
        return ", ".join(variant.name for variant in self.variants)

    def _variant(self, row: str) -> Variant:
        known = {variant.name: variant for variant in self.variants}
        if row in known:
            return known[row]
        if "=" in row:
            return Variant(safe_file_name(row), row.replace("+", ", "), row.replace("+", ","))
        raise UserError(
            f"{self.name} has no row {row!r}.{nearest(row, known)} Accepted: {self._accepted}, or option=value of the "
            "model as a custom row."
        )


def split_rows(text: str) -> list[str]:
    """Split at top-level commas: ``"idconv,ffn_scales=(1,7)"`` -> ``["idconv", "ffn_scales=(1,7)"]``."""
    return [row for row in re.split(r",(?![^(\[]*[)\]])", text) if row.strip()]


_IV_D = "Sec. IV-D: "
_EPOCHS = (
    "The paper's table reports ImageNet-1K after 200 epochs, and ADE20K fine-tuned from those weights (Sec. IV-D). We "
    "do not have its values."
)

TABLES: dict[str, Ablation] = {
    "table6": Ablation(
        "table6",
        "Table VI: comparison of token mixers",
        "transxnet_swin_style",
        (
            Variant("sep_conv", "Sep Conv", "token_mixer=sep_conv"),
            Variant("sra", "SRA", "token_mixer=sra"),
            Variant("shifted_window", "Shifted Window", "token_mixer=shifted_window"),
            Variant("mixing_block", "Mixing block", "token_mixer=mixing_block"),
            Variant(
                "acmix",
                "ACmix block",
                "token_mixer=acmix",
                (
                    f"{_IV_D}“In ImageNet-1K classification, D-Mixer ties with ACmix block which is also a hybrid "
                    "module, but our D-Mixer has a significantly lower computational cost.”",
                ),
            ),
            Variant(
                "d_mixer",
                "D-Mixer",
                "token_mixer=d_mixer",
                (
                    f"{_IV_D}“our D-Mixer has clear advantages in terms of performance and computational cost.”",
                    f"{_IV_D}“D-Mixer demonstrates a pronounced superiority in semantic segmentation, as demonstrated "
                    "on the ADE20K dataset.”",
                ),
            ),
        ),
        f"{_EPOCHS} The network is the Swin-style T: 2, 2, 6 and 2 blocks of 64, 128, 256 and 512 channels.",
    ),
    "table7": Ablation(
        "table7",
        "Table VII: comparison of depthwise convolutions",
        "transxnet_t",
        (
            Variant(
                "dwconv",
                "DWConv",
                "local_conv=dwconv",
                ("Sec. IV-E1: “DWConv has the smallest ERF in comparison to dynamic operators”",),
            ),
            Variant(
                "window",
                "Window attention",
                "local_conv=window",
                (
                    f"{_IV_D}“window attention performs worse with higher computational cost, possibly due to its "
                    "non-overlapping locality.”",
                ),
            ),
            Variant("dyconv", "DyConv", "local_conv=dyconv"),
            Variant("d_dwconv", "D-DWConv", "local_conv=d_dwconv"),
            Variant(
                "idconv",
                "IDConv",
                "local_conv=idconv",
                (
                    f"{_IV_D}“IDConv exceeds DyConv by 0.2% top-1 accuracy and 0.7% mIoU with only a slight increase "
                    "in Params.”",
                    f"{_IV_D}“Compared with the recently proposed D-DWConv, IDConv has fewer parameters while "
                    "achieving comparable top-1 in image classification and superior mIoU in semantic segmentation.”",
                    "Sec. IV-E1: “IDConv enables our model to achieve the largest ERF while preserving a strong "
                    "locality.”",
                ),
            ),
        ),
        f"{_EPOCHS} All kernels and windows are 7x7.",
    ),
    "table8": Ablation(
        "table8",
        "Table VIII: scales of MS-FFN",
        "transxnet_t",
        (
            Variant("plain", "plain FFN", "ffn_scales=()"),
            Variant("3", "{3}, inverted residual", "ffn_scales=(3,)"),
            Variant(
                "1-3",
                "{1, 3}",
                "ffn_scales=(1,3)",
                (
                    f"{_IV_D}“scale={{1,3}} maintains an ignorable performance gap with single scale but with lower "
                    "computational complexity”",
                ),
            ),
            Variant(
                "1-3-5",
                "{1, 3, 5}",
                "ffn_scales=(1,3,5)",
                (
                    f"{_IV_D}“compared with single-scale, scale={{1,3,5}} only improves 0.1% top-1 accuracy on "
                    "ImageNet-1K and 0.1% mIoU on ADE20K.”",
                    f"{_IV_D}“scale={{1,3,5}} improves over single scale by a notable 0.6% AP^b”",
                ),
            ),
            Variant(
                "1-3-5-7",
                "{1, 3, 5, 7}",
                "ffn_scales=(1,3,5,7)",
                (
                    f"{_IV_D}“MS-FFN surpasses Inverted Residual FFN (i.e., scale=3) by 0.3% in top-1 accuracy, 0.4% "
                    "in mIoU, and 0.9% AP^b, respectively.”",
                    f"{_IV_D}“the final design of the MS-FFN (i.e., scale={{1,3,5,7}}) improves AP^b significantly by "
                    "1.0% over single scale.”",
                ),
            ),
            Variant(
                "1-3-5-7-9",
                "{1, 3, 5, 7, 9}",
                "ffn_scales=(1,3,5,7,9)",
                (
                    f"{_IV_D}“Although we observe further performance gains by extending the scale set to "
                    "{1,3,5,7,9}, we opt to discard this configuration to avoid the accompanying increase in the "
                    "number of parameters and FLOPs.”",
                ),
            ),
        ),
        f"{_EPOCHS} AP^b is box AP on COCO.",
    ),
    "table9": Ablation(
        "table9",
        "Table IX: channel ratio of attention",
        "transxnet_t",
        (
            Variant("0.25", "0.25", "attn_ratio=0.25"),
            Variant(
                "0.5",
                "0.5",
                "attn_ratio=0.5",
                (
                    f"{_IV_D}“top-1 accuracy and mIoU are greatly improved when channel ratio is increased from 0.25 "
                    "to 0.5.”",
                    f"{_IV_D}“a channel ratio of 0.5 has the best trade-off between performance and model complexity.”",
                ),
            ),
            Variant(
                "0.75",
                "0.75",
                "attn_ratio=0.75",
                (
                    f"{_IV_D}“when the channel ratio becomes greater than 0.5, the improvement in top-1 accuracy and "
                    "mIoU becomes inconspicuous even though the number of Params increases.”",
                ),
            ),
        ),
        f"{_EPOCHS} The text names the ratios 0.25 and 0.5; 0.75 represents those “greater than 0.5”. For other "
        "ratios, or one per stage, add rows: attn_ratio=0.375, attn_ratio=(0.25,0.25,0.5,0.75).",
    ),
    "table10": Ablation(
        "table10",
        "Table X: DPE, OSR and STE",
        "transxnet_t",
        (
            Variant(
                "no_dpe",
                "without DPE",
                "dpe=false",
                (f"{_IV_D}“DPE brings clear performance improvement, which is consistent with previous works.”",),
            ),
            Variant(
                "non_overlapping",
                "NSR instead of OSR",
                "spatial_reduction=non_overlapping",
                (
                    f"{_IV_D}“OSR demonstrates a slight yet noteworthy improvement of 0.1% in top-1 accuracy and 0.3% "
                    "in mIoU, all without incurring additional computational costs when compared to Non-overlapping "
                    "Spatial Reduction (NSR).”",
                ),
            ),
            Variant("conv1x1", "1x1 convolution instead of STE", "token_enhancer=conv1x1"),
            Variant("none", "without STE", "token_enhancer=none"),
            Variant(
                "full",
                "TransXNet",
                "",
                (
                    f"{_IV_D}“our proposed STE significantly reduces computational cost while maintaining consistent "
                    "performance on ImageNet-1K and boosting mIoU by 0.3% on ADE20K”",
                ),
            ),
        ),
        _EPOCHS,
    ),
}
"""The paper's tables by name."""


def find_table(name: str) -> Ablation:
    """Return the ablation of this name.

    Raises:
        UserError: the name is unknown.
    """
    if name not in TABLES:
        raise UserError(f"unknown table {name!r}.{nearest(name, TABLES)} Accepted: {', '.join(TABLES)}.")
    return TABLES[name]
