"""`/status`: systems, nodes, partitions, reservations, the user, and the liveness of the server."""

import math
import time
from typing import Any

from fastapi import APIRouter, Depends

from firecrest_local.api.checks import RequestChecks
from firecrest_local.api.transfer_jobs import transfer_directives
from firecrest_local.health import INTERVAL, timestamp
from firecrest_local.settings import DAY
from firecrest_local.site import Site


def system_description(site: Site) -> dict[str, Any]:
    """Return a system in the form of `/status/systems`."""
    settings = site.settings
    hidden = "**********"
    return {
        "name": settings.system,
        "ssh": {
            "host": "127.0.0.1",
            "port": 22,
            "proxyHost": None,
            "proxyPort": None,
            "maxClients": 100,
            "timeout": {
                "connection": 5,
                "login": 5,
                "commandExecution": max(round(settings.command_timeout), 1),
                "idleTimeout": 60,
                "keepAlive": 5,
            },
        },
        "scheduler": {
            "type": "slurm",
            "connectionMode": "ssh",
            "version": "22.05.8",
            "apiUrl": None,
            "apiVersion": None,
            "timeout": 10,
        },
        "servicesHealth": site.health.report(),
        "probing": {
            "services": {
                "ssh": {"timeout": 5},
                "filesystem": {"timeout": 5},
                "scheduler": {"timeout": 5},
                "s3": {"timeout": 20},
            },
            "intervalCheck": INTERVAL,
        },
        "lastHealthCheck": timestamp(site.health.last_check),
        "fileSystems": [{"path": str(site.files), "dataType": "users", "defaultWorkDir": True}],
        "dataOperation": {
            "datatransfer_jobs_directives": transfer_directives(site),
            "max_ops_file_size": settings.max_ops_file_size,
            "data_transfer": {
                "serviceType": "s3",
                "name": "s3-storage",
                "privateUrl": hidden,
                "publicUrl": f"{site.url}/staging",
                "accessKeyId": hidden,
                "secretAccessKey": hidden,
                "region": "us-east-1",
                "ttl": settings.url_lifetime,
                "tenant": None,
                "multipart": {
                    "use_split": False,
                    "max_part_size": settings.max_part_size,
                    "parallel_runs": 3,
                    "tmp_folder": "tmp",
                },
                "bucketLifecycleConfiguration": {"days": max(math.ceil(settings.url_lifetime / DAY), 1)},
            },
        },
    }


def router(site: Site) -> APIRouter:
    """Make the endpoints."""
    routes = APIRouter(prefix="/status")
    checks = RequestChecks(site)
    authenticated = [Depends(checks.authenticated)]
    on_system = [*authenticated, Depends(checks.known_system)]

    @routes.get("/systems", dependencies=authenticated)
    def systems() -> dict[str, Any]:
        return {"systems": [system_description(one) for one in (site, *site.others)]}

    @routes.get("/liveness/")
    def liveness() -> dict[str, Any]:
        checked = site.health.last_check
        return {
            "healthcheckRuns": {site.settings.system: timestamp(checked)},
            "lastUpdate": int(time.time() - checked),
        }

    @routes.get("/{system_name}/nodes", dependencies=on_system)
    def nodes() -> dict[str, Any]:
        return {"nodes": site.scheduler.nodes()}

    @routes.get("/{system_name}/reservations", dependencies=on_system)
    def reservations() -> dict[str, Any]:
        return {"reservations": site.scheduler.reservations()}

    @routes.get("/{system_name}/partitions", dependencies=on_system)
    def partitions(show_hidden: bool = False) -> dict[str, Any]:
        return {"partitions": site.scheduler.partitions(hidden=show_hidden)}

    @routes.get("/{system_name}/userinfo", dependencies=on_system)
    def userinfo() -> dict[str, Any]:
        identity = site.identity
        site.health.require("ssh")
        return {
            "user": {"id": str(identity.uid), "name": identity.user},
            "group": {"id": str(identity.gid), "name": identity.group},
            "groups": [{"id": str(number), "name": name} for number, name in identity.groups],
            "accounts": site.scheduler.accounts(),
        }

    return routes
