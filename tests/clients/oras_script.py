"""One act of the Python client for OCI artifacts, as a program: `oras_script.py HOST USER PASSWORD ACT WORDS...`.

A process of its own because the library warns, retries and keeps sessions as it likes. Prints what it gave as JSON;
an error of the library ends it with its traceback.
"""

import json
import sys
from types import SimpleNamespace

import oras.client
import oras.decorator


def act(client: oras.client.OrasClient, name: str, *words: str) -> object:
    """Do what is named: `push TARGET FILE...`, `push-chunked`, `pull TARGET FOLDER`, `tags NAME`, `delete NAME TAG`."""
    match name, words:
        case "push", (target, *files):
            return client.push(target=target, files=files, disable_path_validation=True).status_code
        case "push-chunked", (target, size, *files):
            pushed = client.push(
                target=target, files=files, disable_path_validation=True, do_chunked=True, chunk_size=int(size)
            )
            return pushed.status_code
        case "pull", (target, folder):
            return client.pull(target=target, outdir=folder)
        case "tags", (container,):
            return client.get_tags(container)
        case "delete", (container, tag):
            return client.delete_tag(container, tag)
        case _:
            raise SystemExit(f"no such act: {name} {words}")


if __name__ == "__main__":
    host, user, password, *wanted = sys.argv[1:]
    # It repeats what was refused after 3, 5, 11, 29 and 83 seconds; nothing here gets better by waiting.
    oras.decorator.time = SimpleNamespace(sleep=lambda _: None)
    made = oras.client.OrasClient(hostname=host, insecure=True)
    made.auth.set_basic_auth(user, password)
    print(json.dumps(act(made, *wanted)))
