"""Locks by number between processes that share a file."""

import subprocess
import sys

from switchgear.database.advisory import AdvisoryLocks

HOLDER = """
import pathlib, sys
from switchgear.database.advisory import AdvisoryLocks
locks = AdvisoryLocks(pathlib.Path(sys.argv[1]))
print([locks.take(number) for number in (1, 2**63, 2**64 - 1)], flush=True)
sys.stdin.readline()
locks.give(1)
print("given", flush=True)
sys.stdin.read()
"""


def test_a_lock_excludes_other_processes_until_it_is_given_or_they_end(tmp_path):
    path = tmp_path / "a.db"
    locks = AdvisoryLocks(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as other:
        assert other.stdout.readline() == "[True, True, True]\n"
        assert [locks.take(number) for number in (1, 2**63, 2**64 - 1, 2)] == [
            False,
            False,
            False,
            True,
        ]
        other.stdin.write("\n")
        assert other.stdout.readline() == "given\n"
        assert locks.take(1)
        assert not locks.take(2**63)
        other.kill()
        other.wait()
        assert locks.take(2**63)
    locks.close()


def test_where_no_file_can_be_made_all_are_free(tmp_path):
    locks = AdvisoryLocks(tmp_path / "missing" / "a.db")
    assert locks.take(1)
    locks.give(1)
    locks.close()
