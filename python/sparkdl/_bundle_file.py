"""A bundle as a file: one zip, whose bytes do not depend on the day it was made."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkdl.exceptions import SparkDLError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # Zip's own.


@dataclass(frozen=True)
class Source:
    """Where weights come from, as the manifest says it, and the network with them in place."""

    weights: str
    sha256: str
    network: Any
    what: str = "The live model"


def write_bundle(target: Path, manifest: dict[str, Any], graph: bytes) -> Path:
    """Puts graph and manifest into one zip; the file appears whole or not at all."""
    manifest["graph"]["sha256"] = hashlib.sha256(graph).hexdigest()
    members = [
        ("manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False).encode()),
        ("graph.pb", graph),
    ]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise SparkDLError(f"Cannot write the bundle {target}: {error.strerror}.", "Io") from error
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
            for member, data in members:
                bundle.writestr(zipfile.ZipInfo(member, _EPOCH), data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return target
