# SPDX-License-Identifier: ZPL-2.1
"""The site's ``secret``: where its bytes come from, and that they stay out of sight.

Several may be listed, the newest first: what was made with an older one is still accepted.
The bytes themselves are never used as a key; ``sealing`` derives one for each purpose.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..own_file import file_of_storage
from .convert import words

#: Shorter ones could be guessed by who has seen a cookie or a token.
SHORTEST_SECRET = 32

#: What a FileStorage's own secret is called: the storage's file name and this.
KEPT_SUFFIX = ".zasync-secret"


@dataclass(frozen=True)
class SiteSecrets:
    """Secrets, newest first; never shown. Iterating or printing it tells nothing."""

    values: tuple[bytes, ...] = field(repr=False)
    #: The environment variables that they came from.
    environment_names: tuple[str, ...] = ()

    def remove_from_environment(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Take them out of the environment, so that children and pages do not see them.

        For the end of a process's start: what is read again later finds nothing.
        """
        for name in self.environment_names:
            (os.environ if environ is None else environ).pop(name, None)


def read_secrets(
    value: Any, here: Path = Path(), environ: Mapping[str, str] | None = None
) -> SiteSecrets:
    """Read ``env:NAME``, ``file:PATH`` and literals, several of them with blanks between.

    Args:
        value: Text, bytes, a sequence of them, or SiteSecrets, which are returned.
        here: What relative paths start from.
        environ: By default that of the process.

    Raises:
        ValueError: With what to write, and without a byte of the secret.
    """
    if isinstance(value, SiteSecrets):
        return value
    items = (value,) if type(value) is bytes else words(value) if type(value) is str else value
    environ = os.environ if environ is None else environ
    found = [_read(item, here, environ) for item in items]
    if not found:
        raise ValueError("write env:NAME or file:PATH")
    names = [item[4:] for item in items if type(item) is str and item.startswith("env:")]
    return SiteSecrets(tuple(found), tuple(names))


def _read(item: Any, here: Path, environ: Mapping[str, str]) -> bytes:
    if type(item) is bytes:
        return _long_enough(item, "a secret given as bytes")
    if type(item) is not str:
        raise ValueError(f"write env:NAME or file:PATH, or give bytes, not {type(item).__name__}")
    kind, colon, rest = item.partition(":")
    if colon and kind == "env":
        if rest not in environ:
            raise ValueError(f"the environment variable {rest} is not set")
        return _long_enough(environ[rest].strip().encode(), f"the environment variable {rest}")
    if colon and kind == "file":
        path = here / rest
        try:
            return _long_enough(path.read_bytes().strip(), str(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return _long_enough(item.encode(), "a secret written out (write env:NAME or file:PATH)")


def _long_enough(value: bytes, what: str) -> bytes:
    if len(value) < SHORTEST_SECRET:
        raise ValueError(
            f"{what} has {len(value)} bytes, at least {SHORTEST_SECRET} are needed; "
            "python -c 'import secrets; print(secrets.token_hex(32))' makes one"
        )
    return value


def secrets_for(configured: SiteSecrets | None, storage: Any) -> SiteSecrets:
    """The configured secrets, or the storage's own where no other process can have it open.

    A FileStorage has its secret in a file beside it, made (mode 0600) when absent. One in
    memory lives no longer than this process, and so does its secret. Any other may be
    shared, and each process would make another secret.

    Raises:
        ConfigurationError: None is configured, and the storage is one that others may share.
    """
    if configured is not None:
        return configured
    kinds = {kind.__name__ for kind in type(storage).__mro__}
    if (file := file_of_storage(storage)) is not None:
        return kept_secret_of(file)
    if kinds & {"MappingStorage", "DemoStorage"}:
        return SiteSecrets((secrets.token_bytes(SHORTEST_SECRET),))
    raise missing_secret(type(storage).__name__)


def missing_secret(what: str) -> ConfigurationError:
    """The error for a storage that is shared while no secret is configured."""
    return ConfigurationError(
        f"secret is missing: several processes can share {what}, and need the same one; write "
        "secret = env:NAME or secret = file:PATH"
    )


def kept_secret_of(file: Path) -> SiteSecrets:
    """The secret of a FileStorage, which is kept beside its file.

    Raises:
        ConfigurationError: As ``kept_secret``.
    """
    return kept_secret(file.with_name(file.name + KEPT_SUFFIX))


def kept_secret(path: Path) -> SiteSecrets:
    """The secret in a file of its own, which is made when it is not there.

    Raises:
        ConfigurationError: It cannot be made or read, or others than its owner can read it.
    """
    try:
        _make(path)
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            value = file.read().strip()
        if mode & 0o077:
            raise ValueError(f"others can read it (mode {mode:o}); chmod 600 it")
        return SiteSecrets((_long_enough(value, "the secret in it"),))
    except OSError as error:
        raise ConfigurationError(f"the secret file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"the secret file {path}: {error}") from error


def _make(path: Path) -> None:
    if os.path.lexists(path):
        return
    # Whole before it has its name: others may read it at this moment, and the disk may be full.
    descriptor, unnamed = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(SHORTEST_SECRET).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(unnamed, path)
    finally:
        os.unlink(unnamed)
