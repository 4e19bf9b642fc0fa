"""server: a tracking server for a team, which is MLflow's own with nothing left open.

Secrets reach it through its environment alone: a command line is seen by every user of the machine,
and a file ends up in backups.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.console import show_line
from pipeline.database import is_sqlite, shown, without_password
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.ops.store import ServerStore, find_store, private_files
from pipeline.passwords import weakness
from pipeline.tracking.schema import make_ready

USERNAME, PASSWORD = "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
APP = "ncf-team"  # pipeline.ops.team, by its entry point in pyproject.toml
SOURCES = "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"
UNPROTECTED = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
# Verifying a password takes MLflow a second on purpose, and clients send it with every request. In
# one process the cache is never stale: changed passwords leave it at once.
CONFIGURATION = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
auth_cache_ttl_seconds = 300
"""


@private_files()
def serve(
    folder: Path, artifacts: str | None, host: str, port: int, names: Sequence[str]
) -> NoReturn:
    """Become ``mlflow server``; ``names`` are hosts that it may be called by.

    Raises:
        UserError: the extra for servers is not installed, no good password, a port in use, a
            database out of reach, a folder that cannot be written.
    """
    require("flask_wtf", "server", "A server with users")
    username, password = administrator(os.environ)
    store = find_store(folder, artifacts)
    check_port(host, port)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(store.artifacts, Path):
            store.artifacts.mkdir(parents=True, exist_ok=True)
        key = os.environ.get(SECRET_KEY) or kept_key(folder / "secret_key")
        configuration, variables = configure(folder.absolute() / "basic_auth.ini", store)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written: {error.strerror}. Give a --folder and "
            f"--artifacts that belong to the user who starts the server."
        ) from None
    make_ready(store.url, "mlflow-artifacts:/")
    store.engine().dispose()
    environment = {
        **{name: value for name, value in os.environ.items() if name != UNPROTECTED},
        **variables,
        USERNAME: username,
        PASSWORD: password,
        SECRET_KEY: key,
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        # Runs, models and the server's own files: MLflow asks of these whether the user may read
        # them. Of a folder or a bucket it does not.
        SOURCES: "^(runs|models|mlflow-artifacts):/",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    show_line(
        f"server: http://{host}:{port}, database {shown(store.url)}, artifacts {store.artifacts}, "
        f"administrator {username}"
    )
    # In the place of this process: whoever sends it a signal reaches the server.
    command = [sys.executable, "-m", "mlflow", "server", *flags(store, host, port, names)]
    os.execve(sys.executable, command, environment)


def administrator(environment: Mapping[str, str]) -> tuple[str, str]:
    """Name and password of the user who may do everything.

    Raises:
        UserError: no password, or one that can be guessed.
    """
    username = environment.get(USERNAME) or "admin"
    password = environment.get(PASSWORD, "")
    if why := weakness(password, username) if password else "is not set":
        raise UserError(
            f"{PASSWORD} {why}: set it to a password of the administrator's own, as in: export "
            f'{PASSWORD}="$(openssl rand -base64 18)"'
        )
    return username, password


def check_port(host: str, port: int) -> None:
    """Find out before the server does that nobody can listen here.

    Raises:
        UserError: the port is taken or not for this user, the address not of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} is in use: end what listens there, or give --port."
            ) from None
        why = str(error.strerror).partition(" (")[0]
        raise UserError(f"Nobody can listen at {host}, port {port}: {why}.") from None


def kept_key(path: Path) -> str:
    """The key that signs forms, made at the first start and the same ever after."""
    if not path.exists():
        write_privately(path, secrets.token_hex(32))
    return path.read_text()


def configure(path: Path, store: ServerStore) -> tuple[Path, dict[str, str]]:
    """Write the configuration of users; it and the environment that is returned belong together."""
    if is_sqlite(store.database):
        database, variables = store.database, dict[str, str]()
    else:
        database, variables = without_password(store.database)
    url = database.render_as_string()
    # MLflow reads the file with a parser to which % is special.
    write_privately(path, CONFIGURATION.format(database=url.replace("%", "%%")))
    return path, {**variables, "MLFLOW_BACKEND_STORE_URI": url}


def write_privately(path: Path, text: str) -> None:
    """Write a file that only its owner may read, at no moment another."""
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def flags(store: ServerStore, host: str, port: int, names: Sequence[str]) -> list[str]:
    """Those of ``mlflow server``."""
    hosts = [f"localhost:{port}", f"127.0.0.1:{port}", *names]
    # Browsers send the page's origin with what they post. A name without a port is that of a proxy
    # with TLS; at a port, this server may be spoken to directly.
    origins = [f"{scheme}://{name}" for name in names for scheme in schemes(name)]
    given = {
        "host": host,
        "port": port,
        "workers": 1,
        "app-name": APP,
        "allowed-hosts": ",".join(hosts),
        "cors-allowed-origins": ",".join(origins),
        "artifacts-destination": store.artifacts,
    }
    return ["--serve-artifacts", *(f"--{name}={value}" for name, value in given.items() if value)]


def schemes(name: str) -> tuple[str, ...]:
    """How pages of the host ``name`` are reached."""
    return ("http", "https") if ":" in name else ("https",)
