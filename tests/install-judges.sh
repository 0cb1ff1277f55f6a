#!/bin/sh
# Install the judges of the tests: a PACS, DICOM validators, a browser and a slide viewer.
# Without permission for apt, report what is missing; the tests are then skipped (with CI=true: fail).
set -u
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
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
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing judges:$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update >/dev/null 2>&1
        # The installation must not start services: the tests start their own.
        printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.$$ && chmod +x /tmp/policy-rc.$$
        [ -e /usr/sbin/policy-rc.d ] || { cp /tmp/policy-rc.$$ /usr/sbin/policy-rc.d; ours=1; }
        # One by one: a package that cannot be installed must not prevent the others.
        for package in $missing; do
            apt-get -qq install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
                echo "apt could not install: $package"
        done
        [ "${ours:-0}" = 1 ] && rm -f /usr/sbin/policy-rc.d
        rm -f /tmp/policy-rc.$$
    else
        echo "judges missing:$missing"
        echo "their tests skip; to run them: sudo apt-get install$missing"
    fi
fi
for tool in Orthanc dciodvfy dsrdump chromium; do
    command -v "$tool" >/dev/null 2>&1 || echo "judge missing: $tool"
done
sh "$(dirname "$0")/viewer/install.sh" || echo "judge missing: dicom-microscopy-viewer"
exit 0
