"""Predicting for millions of images: into Parquet files, piece by piece, so that it can stop anywhere and go on."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from transxnet.prediction.classifier_backends import load_predictor
from transxnet.prediction.parquet_rows import predict_pieces, schema_of
from transxnet.prediction.work_folder import Job, Work, held, open_work
from transxnet.utils.errors import Interrupted, UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN, long_progress, progress_bar
from transxnet.version import __version__

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Embed = Literal["float32", "float16"]

PARTS = "part-*.parquet"
"""The files of results where there are several."""

ROW_GROUP_BYTES = 64 << 20
"""Pieces are put together in memory to groups of about this size, since readers are slow on many small ones."""


def is_table(out: str | Path) -> bool:
    """Whether the results are wanted as one Parquet file."""
    return str(out).lower().endswith(".parquet")


def predict_parquet(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    top_k: int,
    batch_size: int,
    workers: int,
    file: str | Path | None,
    embed: Embed | None,
    rows_per_file: int | None,
    ray: bool,
    overwrite: bool,
    console: Console,
) -> Path:
    """Predict for images and write Parquet files; go on where the same prediction stopped before.

    Arguments, result and errors are those of :func:`transxnet.predict`.
    """
    for package, extra in [("pyarrow", "parquet"), *([("ray", "ray")] if ray else [])]:
        if find_spec(package) is None:
            raise UserError(f"this needs the package {package}: pip install 'transxnet[{extra}]'")
    folder = _work_folder(out.resolve(), rows_per_file)
    _check_out(out, rows_per_file, overwrite or (folder / "manifest.json").exists())
    predictor = load_predictor(model, file)
    if embed and not predictor.embeds:
        raise UserError(
            f"{predictor.name} gives no features. Leave out --embed, or name the run that it was made from."
        )
    names = [str(name) for name in inputs]
    job = Job(
        model=predictor.name,
        weights=predictor.fingerprint,
        inputs=names,
        root="" if all(map(os.path.isabs, names)) else os.getcwd(),
        top_k=min(top_k, len(predictor.class_names)),
        batch_size=batch_size,
        embed=embed,
        rows_per_file=rows_per_file,
        version=__version__,
    )
    with held(folder):
        with progress_bar(console, "looking for images", None) as looking:
            work = open_work(folder, job, overwrite, looking)
        if ray:
            from transxnet.prediction.ray_backend import predict_on_ray

            _carry_out(work, predict_on_ray(model, file, work, workers), console)
        else:
            _carry_out(work, predict_pieces(predictor, work, work.to_do(), workers), console)
        unread, last = _unread(work)
        if unread == work.total:
            work.discard()
            raise UserError(f"none of the {unread:,} images could be read; the last: {last}")
        results = _put_together(work)
        _publish(results, out.resolve(), rows_per_file)
        work.discard()
    console.print(
        f"{work.total - unread:,} images predicted" + (f", {unread:,} could not be read (see error)" if unread else "")
    )
    where = out if rows_per_file is None else out / PARTS
    console.print(f"  {where}" + (f" ({len(results)} files)" if rows_per_file else ""), **PLAIN)
    return out


def _work_folder(out: Path, rows_per_file: int | None) -> Path:
    """Where the work is kept: on the file system of the results, which then only need to be renamed."""
    if rows_per_file is not None and out.is_mount():
        return out / ".part"
    return out.with_name(out.name + ".part")


def _check_out(out: Path, rows_per_file: int | None, may_exist: bool) -> None:
    """Raise UserError unless results can be written there."""
    if rows_per_file is None:
        existing = [out] if out.exists() else []
        wrong, wanted = out.is_dir(), "is a folder. Choose another --out, or give --rows_per_file"
    else:
        existing = sorted(out.glob(PARTS))
        wrong, wanted = (
            is_table(out) or out.is_file(),
            "is the name of a file, and --rows_per_file makes a folder of them",
        )
    if wrong:
        raise UserError(f"{out} {wanted}.")
    if existing and not may_exist:
        raise UserError(f"{existing[0]} exists already. Write over it by --overwrite, or choose another --out.")


def _carry_out(work: Work, counts: Iterator[int], console: Console) -> None:
    """Go through the images, of which an iterator says how many more are done, and say how it goes."""
    before, start = work.done(), time.monotonic()
    if before:
        console.print(f"going on: {before:,} of {work.total:,} images were done before", highlight=False)
    done = before
    try:
        with long_progress(console, "predicting", work.total, before, "images") as advance:
            for count in counts:
                done += count
                advance(done)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped with {work.done():,} of {work.total:,} images done, which are kept in {work.folder}. "
            "Run the same command again to go on."
        ) from error
    if missing := work.to_do():
        raise UserError(
            f"{len(missing)} of {len(work.pieces)} pieces are not in {work.folder}. With --ray, --out must be on a "
            "file system that all machines share. Run the same command again to go on."
        )
    if done > before:
        seconds = time.monotonic() - start
        rate = (done - before) / seconds
        console.print(
            f"{done - before:,} images in {timedelta(seconds=round(seconds))}, {rate:,.1f} images/s", highlight=False
        )


def _unread(work: Work) -> tuple[int, str | None]:
    """How many images could not be read, and why not the last of them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    count, last = 0, None
    for piece in range(len(work.pieces)):
        file = work.piece_file(piece)
        if errors := _errors(pq.read_metadata(file)):
            count, last = count + errors, file
    if last is None:
        return 0, None
    table = pq.read_table(last, columns=["path", "error"]).filter(pc.field("error").is_valid())
    row = table.slice(table.num_rows - 1).to_pylist()[0]
    return count, f"{row['path']}: {row['error']}"


def _errors(metadata: "pq.FileMetaData") -> int:
    """Rows of a piece whose last column, the error, is not null, by its statistics."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return sum(group.num_rows - group.column(metadata.num_columns - 1).statistics.null_count for group in groups)


def _put_together(work: Work) -> list[Path]:
    """Make the files of results from the pieces, still in the folder of the work."""
    results = []
    for number, pieces in enumerate(work.files()):
        results.append(work.result_file(number))
        write_atomic(results[-1], lambda path, pieces=pieces: _join(work, pieces, path))  # type: ignore[misc]
    return results


def _join(work: Work, pieces: Sequence[int], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = {"model": work.job.model, "weights": work.job.weights, "version": work.job.version}
    schema = schema_of(work.job).with_metadata({"transxnet": json.dumps(origin)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[pa.Table] = []
        for piece in pieces:
            group.append(pq.read_table(work.piece_file(piece)).replace_schema_metadata(schema.metadata))
            if sum(table.nbytes for table in group) >= ROW_GROUP_BYTES:
                writer.write_table(pa.concat_tables(group))
                group = []
        if group:
            writer.write_table(pa.concat_tables(group))


def _publish(results: Sequence[Path], out: Path, rows_per_file: int | None) -> None:
    """Give the files of results their names, in the place of those of before; ``out`` is no link."""
    if rows_per_file is None:
        results[0].replace(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(PARTS):
        old.unlink()
    for result in results:
        result.replace(out / result.name)
