#!/bin/sh
# Builds the wheel of the last commit twice and compares the bytes. $1: Python with setuptools.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for mask in 022 077; do
	(
		umask "$mask"
		mkdir "$folder/$mask" "$folder/$mask/source"
		git archive HEAD | tar -x -C "$folder/$mask/source"
		cd "$folder/$mask/source"
		"$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w "$folder/$mask" .
	)
done
cd "$folder"
sha256sum 022/*.whl 077/*.whl
cmp 022/*.whl 077/*.whl
echo "both wheels have equal bytes"
