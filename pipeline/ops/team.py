"""The app of a team's server: MLflow's own with users, and closed what that leaves open.

MLflow starts it as ``mlflow server --app-name ncf-team`` (an entry point in pyproject.toml).
"""

from __future__ import annotations

from typing import Any

from flask import Response, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.protos.service_pb2 import CreateExperiment
from mlflow.server import app as flask_app
from mlflow.server import auth
from mlflow.server.auth.entities import User
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.server.handlers import _get_request_message, catch_mlflow_exception
from werkzeug.security import check_password_hash, generate_password_hash

from pipeline.ops.door import Door
from pipeline.passwords import weakness
from pipeline.serving.asgi import App


class TeamStore(SqlAlchemyStore):
    """MLflow's users, none of whom has a password that can be guessed."""

    def __init__(self) -> None:
        super().__init__()
        self.nobodys = generate_password_hash("of nobody")

    def create_user(self, username: str, password: str, is_admin: bool = False) -> User:
        """Make a user.

        Raises:
            MlflowException: the password is a weak one.
        """
        _check_password(password, username)
        return super().create_user(username, password, is_admin)

    def update_user(
        self, username: str, password: str | None = None, is_admin: bool | None = None
    ) -> User:
        """Change a user.

        Raises:
            MlflowException: the password is a weak one.
        """
        if password is not None:
            _check_password(password, username)
        return super().update_user(username, password, is_admin)

    def authenticate_user(self, username: str, password: str, **choices: Any) -> bool:
        """Whether the password is the user's, which takes as long for one that does not exist."""
        if not self.has_user(username, **choices):
            check_password_hash(self.nobodys, password)
            return False
        return bool(super().authenticate_user(username, password, **choices))


def _check_password(password: object, username: str) -> None:
    if why := weakness(str(password), username):
        raise MlflowException(f"The password of {username} {why}.", INVALID_PARAMETER_VALUE)


@catch_mlflow_exception  # type: ignore[untyped-decorator]
def check_request() -> Response | None:
    """Refuse what MLflow lets any user do: to say where files go, and to see who else is there."""
    rule = request.url_rule.rule if request.url_rule else ""
    if rule.endswith("/mlflow/experiments/create"):
        # With MLflow's own eyes: it reads JSON of any content type, and JSON in JSON.
        asked = _get_request_message(CreateExperiment())  # type: ignore[no-untyped-call]
        if asked.artifact_location:
            raise MlflowException(
                "artifact_location is not for clients to choose: this server keeps the files of "
                "every experiment in a folder of its own. Leave it out.",
                INVALID_PARAMETER_VALUE,
            )
    elif rule.endswith("/mlflow/users/list") and not auth.sender_is_admin():  # type: ignore[no-untyped-call]
        return auth.make_forbidden_response()
    return None


def create_app() -> App:
    """What uvicorn serves."""
    auth.store = TeamStore()
    app = auth.create_app()
    flask_app.before_request(check_request)  # after MLflow's own, which asks who it is
    return Door(app)
