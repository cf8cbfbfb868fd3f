"""Other registries: how they are asked, what they are allowed to make us do, and what is kept of what they said."""
