"""One act of Helm's own SDK, as a program: `helm_script.py CREDENTIALS-FILE ACT WORDS...`.

A process of its own so that it can run as nobody: the SDK is native code that somebody packaged. It stands alone, for
a Python that has nothing but the SDK's folder on its path. Prints what the act gave as JSON.
"""

import json
import sys

from helm_python import HelmError, RegistryClient


def act(client: RegistryClient, name: str, *words: str) -> object:
    """Do what is named: `login HOST USER PASSWORD`, `push ARCHIVE REMOTE`, `pull CHART VERSION FOLDER`, `tags NAME`."""
    if (name, len(words)) == ("login", 3):
        client.login(*words, plain_http=True)
        return None
    if (name, len(words)) == ("push", 2):
        return client.push(*words, plain_http=True)
    if (name, len(words)) == ("pull", 3):
        chart, version, folder = words
        return client.pull(chart, version=version, destination=folder, plain_http=True)
    if (name, len(words)) == ("tags", 1):
        return client.tags(*words)
    if (name, len(words)) == ("resolve", 1):
        return client.resolve(*words)
    raise SystemExit(f"no such act: {name} {words}")


if __name__ == "__main__":
    try:
        print(json.dumps(act(RegistryClient(plain_http=True, credentials_file=sys.argv[1]), *sys.argv[2:])))
    except HelmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
