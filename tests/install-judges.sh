#!/bin/sh
# Install the judges of the tests: a PACS, DICOM validators, a browser and a slide viewer.
# Without permission for apt, report what is missing; the tests are then skipped. With CI=true it
# fails at once: the tests would fail too, after most of an hour.
set -u
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
look() {
    missing=""
    need Orthanc orthanc
    need dciodvfy dicom3tools
    need dsrdump dcmtk
    need chromium chromium
    need openssl openssl
    need systemd-analyze systemd
    need promtool prometheus
    need npm npm # fetches the viewer
    [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
    ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime" # moves a clock
    ldconfig -p 2>/dev/null | grep -q libturbojpeg || missing="$missing libturbojpeg0"
}
look
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing judges:$missing"
        export DEBIAN_FRONTEND=noninteractive
        # A mirror that is away must not hold up each package for minutes.
        apt() { apt-get -qq -o Acquire::http::Timeout=30 -o Acquire::Retries=1 "$@"; }
        apt update >/dev/null 2>&1
        # The installation must not start services: the tests start their own.
        printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.$$ && chmod +x /tmp/policy-rc.$$
        [ -e /usr/sbin/policy-rc.d ] || { cp /tmp/policy-rc.$$ /usr/sbin/policy-rc.d; ours=1; }
        # One by one: a package that cannot be installed must not prevent the others.
        for package in $missing; do
            apt install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
                echo "apt could not install: $package"
        done
        [ "${ours:-0}" = 1 ] && rm -f /usr/sbin/policy-rc.d
        rm -f /tmp/policy-rc.$$
    else
        echo "judges missing:$missing"
        echo "their tests skip; to run them: sudo apt-get install$missing"
    fi
fi
look
sh "$(dirname "$0")/viewer/install.sh" || missing="$missing dicom-microscopy-viewer"
for judge in $missing; do
    echo "judge missing: $judge"
done
[ -z "$missing" ] || [ "${CI:-}" != true ]
