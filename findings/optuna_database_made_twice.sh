#!/bin/bash
# optuna 4.9.0: of two processes that open the same new database at the same time, one can fail.
#
# RDBStorage makes its tables when it is opened, where there are none. Two workers that are started together, as those of
# an array job are, both find none; one of them then ends in "table ... already exists" or "UNIQUE constraint failed:
# alembic_version.version_num". load_if_exists does not help, for the study comes later.
#
# Cure: open the storage once more after such an error, or once before the workers are started.
#
# Output seen (optuna 4.9.0, sqlalchemy 2.1.9, Python 3.11; how many fail, and of which error, is chance):
#   2 workers on each of 20 new databases: one failed on 16
#     8 x (sqlite3.IntegrityError) UNIQUE constraint failed: alembic_version.version_num
#     6 x (sqlite3.OperationalError) table studies already exists
#     1 x (sqlite3.OperationalError) table study_directions already exists
#     1 x (sqlite3.OperationalError) table study_system_attributes already exists
#
# Fails if none fails.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "optuna==4.9.0" "sqlalchemy==2.1.9"
cd "$place"
"$place/venv/bin/python" - <<'PYTHON' 2>/dev/null
import multiprocessing

import optuna


def work(number, start, failed):
    start.wait()
    try:
        optuna.storages.RDBStorage(f"sqlite:///{number}.db")
    except Exception as error:
        failed.put(str(error).splitlines()[0])


context = multiprocessing.get_context("fork")
failed = context.Queue()
for number in range(20):
    start = context.Barrier(2)
    workers = [context.Process(target=work, args=(number, start, failed)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
errors = [failed.get() for _ in range(failed.qsize())]
print(f"2 workers on each of 20 new databases: one failed on {len(errors)}")
for error in sorted(set(errors)):
    print(f"  {errors.count(error)} x {error}")
assert errors, "the behaviour has changed"
PYTHON
