"""The registry API: the OCI distribution specification over HTTP. File names are the specification's nouns."""
