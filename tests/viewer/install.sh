#!/bin/sh
# Install the viewer of the tests into js/ beside this file: dicom-microscopy-viewer (the engine of
# Slim) and the DICOMweb client that it pins; axe, which judges whether all people can use a page;
# and dcmjs, the DICOM parser of OHIF. Their builds are self-contained, so one file each is fetched
# instead of a tree of dependencies. Exact versions, checked by their SHA-512.
set -eu
cd "$(dirname "$0")"
stamp=$(grep '^fetch [a-z]' install.sh)
[ "$(cat js/stamp 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf js
new=$(mktemp -d ./js.XXXXXX)
trap 'rm -rf "$new"' EXIT

fetch() { # NAME VERSION SHA512 PART, the build's folder in the package, or its one file
    (cd "$new" && npm pack --silent "$1@$2" >/dev/null)
    echo "$3  $new/$1-$2.tgz" | sha512sum --check --quiet
    tar -xzf "$new/$1-$2.tgz" -C "$new" --exclude='*.map' "package/$4"
    [ -d "$new/package/$4" ] && mv "$new/package/$4"/* "$new" || mv "$new/package/$4" "$new"
    rm -r "$new/package" "$new/$1-$2.tgz"
}
fetch dicom-microscopy-viewer 0.48.24 d35ea8ff6dde36a5ccc605f91239c3985cf544e48c42653bbe64654d53d482c865e8d681ad9cc4c96933ab804d68514f7eb136ef8016751e5cad6e7571687ef6 dist/dynamic-import
fetch dicomweb-client 0.11.3 eedd5173fd357f21672a541e34f5bd3efc6f9acc7c47f0600769fb0714ee5a2ad11709530b9ba911e2de4b7bceef63fe9fafd2419dfee628f46e06960c7406fc build
fetch axe-core 4.10.3 5e6edba515e70d25f6604d9815f064d859c5d1ea7ab661bbc4f87c88779ef0c21cae0abbeb636471ef39e9d62d2582e4b88a1866f19f4ecfcf6d986275e4dc12 axe.min.js
fetch dcmjs 0.52.2 8edfa4c8235c8c235c7d03430e9876e8d654061dda94e10cdfa6a8f75f1aa2d91bd96c6452adce56ef38ab710e0ac25cc2431fb048a88e2080f3e45868247802 build/dcmjs.min.js

echo "$stamp" >"$new/stamp"
chmod 755 "$new"
mv "$new" js
