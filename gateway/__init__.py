"""The gateway: everything between a container client's socket and the waist that `storage` offers."""
