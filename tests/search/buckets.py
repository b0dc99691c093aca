"""A stand-in for S3 on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

#: What a user of S3 may do who may do everything, and who may only read.
EVERYTHING, READING = ["s3:*"], ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"]


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Serve S3 with an empty bucket ``bucket``; yield the environment variables by which clients find it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        variables = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            here = {"endpoint_override": f"{host}:{port}", "scheme": "http"}
            fs.S3FileSystem(**here, allow_bucket_creation=True).create_dir("bucket")
        yield variables
    finally:
        # All servers of a process share their buckets.
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        server.stop()


def user_of(server: dict[str, str], actions: list[str]) -> dict[str, str]:
    """Create a user of S3 who may do some things; return the environment variables of that user."""
    iam = boto3.client(
        "iam",
        endpoint_url=server["AWS_ENDPOINT_URL"],
        region_name=server["AWS_DEFAULT_REGION"],
        aws_access_key_id=server["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server["AWS_SECRET_ACCESS_KEY"],
    )
    name = f"user-{len(iam.list_users()['Users'])}"
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        **server,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }


@contextmanager
def users_checked() -> Iterator[None]:
    """Let S3 refuse in the block what users may not do, and users that it does not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        yield
