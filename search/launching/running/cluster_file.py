"""The file from which ``ray up`` has started a cluster, and the machines that it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.launching.running.machine import Machine
from trainables.errors import UserError


@dataclass(frozen=True)
class ClusterFile:
    """A cluster's file.

    Attributes:
        path: The file.
        document: What it holds.
    """

    path: Path
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> ClusterFile:
        """Read a file.

        Raises:
            UserError: If it is no file for ``ray up``.
        """
        import yaml

        try:
            document = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{path}: there is no such file; write the file that `ray up` was given"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
        if not isinstance(document, dict) or not {"cluster_name", "provider", "auth"} <= document.keys():
            raise UserError(f"{path}: is no file for `ray up`, such as `launch hosts` and `launch aws` write")
        return cls(path, document)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.document["cluster_name"])

    @property
    def keeps_disks(self) -> bool:
        """Whether the machines and their disks are there when the cluster has ended."""
        return bool(self.document["provider"]["type"] == "local")

    def head(self) -> Machine:
        """Return the head.

        Raises:
            UserError: If the cluster has none, or if the provider cannot be asked.
        """
        provider = self.document["provider"]
        if self.keeps_disks:
            return self._machine(
                provider.get("external_head_ip") or provider["head_ip"], self.document["auth"]
            )
        from ray.autoscaler import sdk

        try:
            # The provider adds what the file leaves out, such as the key that Ray has made.
            auth = sdk.bootstrap_config(self.document)["auth"]
            return self._machine(sdk.get_head_node_ip(str(self.path)), auth)
        except Exception as error:  # of any provider's library
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{self.path}: no head was found ({reason}); was it started with `ray up`?"
            ) from error

    def workers(self) -> list[Machine]:
        """Return the workers that the file names, which are one's own machines."""
        addresses = self.document["provider"].get("worker_ips", ())
        return [self._machine(address, self.document["auth"]) for address in addresses]

    @staticmethod
    def _machine(address: str, auth: dict[str, Any]) -> Machine:
        return Machine(address, auth["ssh_user"], auth.get("ssh_private_key"), auth.get("ssh_proxy_command"))
