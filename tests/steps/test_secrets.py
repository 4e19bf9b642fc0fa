"""Nothing that a run keeps, and nothing that is told, holds a secret of who made it."""

from __future__ import annotations

import subprocess

from tests.steps.workplace import Workplace, finish, served

SECRETS = {
    "DATABASE_URL": "postgresql://u:{}@h/x",
    "AWS_SECRET_ACCESS_KEY": "{}",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "{}",
    "MLFLOW_TRACKING_TOKEN": "{}",
    "HTTPS_PROXY": "http://p:{}@proxy:1",
    "PIP_INDEX_URL": "https://u:{}@index/simple",
}
MARK = "hunter2"


def test_secrets_stay_where_they_are(workplace: Workplace) -> None:
    given = {name: value.format(f"{MARK}-{name}") for name, value in SECRETS.items()}
    for words in (("init", "-q"), ("remote", "add", "origin", f"https://x:{MARK}-git@h/x.git")):
        subprocess.run(["git", *words], cwd=workplace.folder, check=True)
    (workplace.folder / ".git" / "config").rename(workplace.folder.parent / "git-config")
    (workplace.folder / ".git" / "config").symlink_to(workplace.folder.parent / "git-config")
    train = ("train", "--config=small.yaml", "--dataset=ratings.csv", "--epochs=1")
    with served(workplace, "127.0.0.1") as url:
        given["MLFLOW_TRACKING_URI"] = url.replace("//", f"//ada:{MARK}-url@")
        outcome = finish(workplace.start("pipeline", *train, "--validate=false", **given))
    assert outcome.status == 0, outcome.told
    assert MARK not in outcome.told
    files = [path for path in workplace.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)  # what the run keeps is among them
    for path in files:
        assert path.is_symlink() or MARK.encode() not in path.read_bytes(), path
