"""Asks DataFusion itself what the judge of `tests/oracle` said: the same queries over the same tables, compared value by value. `make oracle` runs it.

ask_datafusion.py FOLDER: what `MILLRACE_ORACLE_DUMP=FOLDER` left, one folder for each case: tables as Arrow streams, `steps` (name, tab, SQL), `answer`.
"""

import pathlib
import struct
import sys

import datafusion
import pyarrow as pa


def read(path):
    with pa.ipc.open_stream(path) as reader:
        return reader.read_all()


def batches(table):
    return table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def exact(value):
    """A double bit by bit: NaN is itself, and -0 is not 0."""
    return struct.pack(">d", value) if isinstance(value, float) else value


def rows(table):
    columns = [column.to_pylist() for column in table.columns]
    return sorted((tuple(exact(value) for value in row) for row in zip(*columns)), key=repr)


def answer(case):
    context = datafusion.SessionContext(datafusion.SessionConfig({"datafusion.execution.target_partitions": "2"}))
    for path in case.glob("*.arrow"):
        table = read(path)
        context.register_record_batches(path.stem, [batches(table)])
    last = None
    for line in (case / "steps").read_text().split("\0"):
        name, sql = line.split("\t", 1)
        last = context.sql(sql).to_arrow_table()
        if not (case / f"{name}.arrow").exists():
            context.register_record_batches(name, [batches(last)])
    return last


def main(folder):
    cases = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir())
    wrong = 0
    for case in cases:
        expected, said = rows(read(case / "answer")), rows(answer(case))
        if expected != said:
            wrong += 1
            print(f"{case.name}:\n  the judge says {expected}\n  DataFusion says {said}")
    print(f"DataFusion {datafusion.__version__} agrees with the judge on {len(cases) - wrong} of {len(cases)} cases")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
