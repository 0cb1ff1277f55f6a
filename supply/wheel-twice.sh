#!/bin/sh
# Builds the wheel of the last commit twice and compares the bytes. $1: Python with setuptools.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
umask 022 # rights of files are bytes of a wheel
for place in one another; do
	(
		mkdir "$folder/$place" "$folder/$place/source"
		git archive HEAD | tar -x -C "$folder/$place/source"
		cd "$folder/$place/source"
		"$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w "$folder/$place" .
	)
done
cd "$folder"
sha256sum one/*.whl another/*.whl
cmp one/*.whl another/*.whl
echo "both wheels have equal bytes"
