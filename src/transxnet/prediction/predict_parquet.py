"""Classify millions of images into Parquet files: chunk by chunk, so that it can be interrupted and resumed."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from transxnet.data.reading.pixels import extensions_for
from transxnet.prediction.classifier_tables import classifier_table
from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.parquet_chunks import predict_chunks
from transxnet.prediction.stored_predictions import StoredPredictions
from transxnet.prediction.work_folder import PredictionSettings, WorkFolder, lock_work_folder, open_work_folder
from transxnet.utils.errors import Interrupted, UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.optional_packages import require_package
from transxnet.utils.progress import PLAIN, long_progress, progress_bar
from transxnet.version import __version__

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Embed = Literal["float32", "float16"]

PART_FILES = "part-*.parquet"
"""Names of the result files with ``rows_per_file``."""

ROW_GROUP_BYTES = 64 << 20
"""Approximate size of the row groups, merged from chunks in memory, since many small ones are slow to read."""


def is_parquet(out: str | Path) -> bool:
    """Return whether the output path is a single Parquet file."""
    return str(out).lower().endswith(".parquet")


def predict_parquet(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    top_k: int,
    tta: bool,
    batch_size: int,
    workers: int,
    device: str,
    file: str | Path | None,
    embed: Embed | None,
    rows_per_file: int | None,
    ray: bool,
    overwrite: bool,
    console: Console,
) -> StoredPredictions:
    """Classify images into Parquet files; an interrupted prediction with the same arguments is resumed.

    Arguments, result and errors are those of :func:`transxnet.predict`.
    """
    require_package("pyarrow", "transxnet[parquet]", "Parquet output")
    if ray:
        require_package("ray", "transxnet[ray]", "--ray")
    path = _work_folder_path(out.resolve(), rows_per_file)
    _check_out(out, rows_per_file, overwrite or (path / "manifest.json").exists())
    classifier = open_model(model, file, device)
    if classifier.task != "classify":
        raise UserError(
            f"Parquet output supports classifiers only; {model} is a detector or a segmenter. Use a folder as --out, "
            "without --rows-per-file, --embed and --ray."
        )
    classifier = classifier.with_options(tta=tta)
    if embed:
        classifier.check_features()
    names = [str(name) for name in inputs]
    settings = PredictionSettings(
        model=classifier.name,
        weights=classifier.fingerprint,
        inputs=names,
        root="" if all(map(os.path.isabs, names)) else os.getcwd(),
        top_k=min(top_k, len(classifier.class_names)),
        batch_size=batch_size,
        embed=embed,
        rows_per_file=rows_per_file,
        version=__version__,
        tta=tta,
    )
    with lock_work_folder(path):
        with progress_bar(console, "searching images", None) as progress:
            known = extensions_for(classifier.backend.channels)
            work = open_work_folder(path, settings, overwrite, progress, known)
        if ray:
            from transxnet.prediction.predict_ray import predict_on_ray

            counts = predict_on_ray(model, file, device, work, workers)
        else:
            counts = predict_chunks(classifier, work, work.pending(), workers)
        _run(work, counts, console)
        unreadable, last = _count_unreadable(work)
        if unreadable == work.num_images:
            work.clear()
            raise UserError(f"none of the {unreadable:,} images could be predicted. Error of the last: {last}")
        parts = _merge_chunks(work)
        _publish(parts, out.resolve(), rows_per_file)
        work.clear()
    failures = f", {unreadable:,} failed (see column error)" if unreadable else ""
    console.print(f"{work.num_images - unreadable:,} images predicted{failures}")
    console.print(f"  {out}" if rows_per_file is None else f"  {out / PART_FILES} ({len(parts)} files)", **PLAIN)
    files = [out] if rows_per_file is None else [out / part.name for part in parts]
    table = classifier_table(classifier.targets, classifier.class_names, settings.top_k)
    return StoredPredictions(out, files, "classify", work.num_images, table, classifier.backend.channels)


def _work_folder_path(out: Path, rows_per_file: int | None) -> Path:
    """The folder for the work: on the file system of the results, which then only need to be renamed."""
    if rows_per_file is not None and out.is_mount():
        return out / ".part"
    return out.with_name(out.name + ".part")


def _check_out(out: Path, rows_per_file: int | None, may_exist: bool) -> None:
    """Raise UserError unless results can be written there."""
    if rows_per_file is None:
        if out.is_dir():
            raise UserError(f"{out} is a folder. Choose another --out, or use --rows-per-file.")
        existing = [out] if out.exists() else []
    else:
        if is_parquet(out) or out.is_file():
            raise UserError(f"--rows-per-file requires a folder as --out, got {out}.")
        existing = sorted(out.glob(PART_FILES))
    if existing and not may_exist:
        raise UserError(f"{existing[0]} already exists. Use --overwrite, or choose another --out.")


def _run(work: WorkFolder, counts: Iterator[int], console: Console) -> None:
    """Run a prediction to its end and show the progress; ``counts`` yields the number of new images at each step."""
    before, start = work.num_finished(), time.monotonic()
    if before:
        console.print(f"resuming: {before:,} of {work.num_images:,} images are already predicted", highlight=False)
    done = before
    try:
        with long_progress(console, "predicting", work.num_images, before, "images") as advance:
            for count in counts:
                done += count
                advance(done)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped after {work.num_finished():,} of {work.num_images:,} images, saved in {work.path}. "
            "Run the same command again to resume."
        ) from error
    if missing := work.pending():
        raise UserError(
            f"{len(missing)} of {len(work.chunks)} chunks are missing in {work.path}. With --ray, --out must be on a "
            "shared file system. Run the same command again to resume."
        )
    if done > before:
        seconds = time.monotonic() - start
        rate = (done - before) / seconds
        console.print(
            f"{done - before:,} images in {timedelta(seconds=round(seconds))}, {rate:,.1f} images/s", highlight=False
        )


def _count_unreadable(work: WorkFolder) -> tuple[int, str | None]:
    """Count the unreadable images; also returns path and error of the last one."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    count, last = 0, None
    for chunk in range(len(work.chunks)):
        file = work.chunk_file(chunk)
        if errors := _count_errors(pq.read_metadata(file)):
            count, last = count + errors, file
    if last is None:
        return 0, None
    table = pq.read_table(last, columns=["path", "error"]).filter(pc.field("error").is_valid())
    row = table.slice(table.num_rows - 1).to_pylist()[0]
    return count, f"{row['path']}: {row['error']}"


def _count_errors(metadata: "pq.FileMetaData") -> int:
    """Count the rows with an error, the last column, from the statistics of the file."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return sum(group.num_rows - group.column(metadata.num_columns - 1).statistics.null_count for group in groups)


def _merge_chunks(work: WorkFolder) -> list[Path]:
    """Write the part files, still in the work folder."""
    parts = []
    for number, chunks in enumerate(work.chunks_of_parts()):
        parts.append(work.part_file(number))
        write_atomic(parts[-1], lambda path, chunks=chunks: _write_part(work, chunks, path))  # type: ignore[misc]
    return parts


def _write_part(work: WorkFolder, chunks: Sequence[int], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = {"model": work.settings.model, "weights": work.settings.weights, "version": work.settings.version}
    schema = pq.read_schema(work.chunk_file(chunks[0])).with_metadata({"transxnet": json.dumps(origin)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[pa.Table] = []
        for chunk in chunks:
            group.append(pq.read_table(work.chunk_file(chunk)).replace_schema_metadata(schema.metadata))
            if sum(table.nbytes for table in group) >= ROW_GROUP_BYTES:
                writer.write_table(pa.concat_tables(group))
                group = []
        if group:
            writer.write_table(pa.concat_tables(group))


def _publish(parts: Sequence[Path], out: Path, rows_per_file: int | None) -> None:
    """Move the results to their final names and remove those of an earlier prediction; ``out`` is no link."""
    if rows_per_file is None:
        parts[0].replace(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(PART_FILES):
        old.unlink()
    for part in parts:
        part.replace(out / part.name)
