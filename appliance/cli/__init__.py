"""The command ``tandem``; `main` mounts the commands of all other modules."""
