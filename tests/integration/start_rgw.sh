#!/bin/bash
# Start Ceph's RADOS Gateway in FOLDER, on loopback, with one monitor and one OSD in memory, and
# print the settings with which the store's contract is tried against it:
#
#   apt-get install radosgw ceph-mon ceph-osd ceph-common       # Debian 12: 16.2.15
#   set -a; . <(tests/integration/start_rgw.sh /tmp/rgw); set +a
#   .venv/bin/python -m pytest tests/integration/test_moto_store.py; kill $(cat /tmp/rgw/pids)
set -euo pipefail
folder=$1
monitor=40301 gateway=40380
mkdir -p "$folder"/{mon,osd,rgw}
fsid=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
secret=$(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n')
cat > "$folder/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$monitor/0
ms bind ipv6 = false
public network = 127.0.0.0/8
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
run dir = $folder
admin socket = $folder/\$name.asok
log file = $folder/\$name.log
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:$gateway
keyring = $folder/keyring
CONF
use() { "$1" -c "$folder/ceph.conf" "${@:2}"; }
begin() {
  "$1" -c "$folder/ceph.conf" "${@:2}" -f >"$folder/$1.out" 2>&1 </dev/null &
  echo $! >>"$folder/pids"
}
{
  ceph-authtool --create-keyring "$folder/keyring" --gen-key -n mon. --cap mon 'allow *'
  for name in client.admin client.rgw osd.0; do
    ceph-authtool "$folder/keyring" --gen-key -n $name --cap mon 'allow *' --cap osd 'allow *'
  done
  monmaptool --create --clobber --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" "$folder/monmap"
  use ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring"
  begin ceph-mon -i a
  use ceph --connect-timeout 30 osd new "$osd"
  use ceph-osd -i 0 --mkfs --osd-uuid "$osd"
  cp "$folder/keyring" "$folder/rgw/keyring"  # where a gateway looks by default
  use ceph osd crush add osd.0 1.0 host=here root=default
  begin ceph-osd -i 0
  begin radosgw -n client.rgw
  for _ in $(seq 60); do
    (: </dev/tcp/127.0.0.1/$gateway) 2>/dev/null && break
    sleep 1
  done
  use radosgw-admin user create --uid=shop --display-name=shop --access-key=shop --secret-key="$secret"
} >&2
echo "ECOM_TEST_RGW_ENDPOINT=http://127.0.0.1:$gateway"
echo "ECOM_TEST_RGW_KEY=shop"
echo "ECOM_TEST_RGW_SECRET=$secret"
