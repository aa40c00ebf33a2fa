#!/bin/sh
# Runs in a guest without an IOMMU whose vfio modules have the no-IOMMU mode (/noiommu): the tests of the driver, then a store
# by the tool, on $NVME_BDFS.
set -e
insmod /noiommu/vfio.ko enable_unsafe_noiommu_mode=1
for module in vfio_virqfd vfio-pci-core vfio-pci; do
  if [ -e /noiommu/$module.ko ]; then insmod /noiommu/$module.ko; fi
done
echo vfio-pci >/sys/bus/pci/devices/"$NVME_BDFS"/driver_override
echo "$NVME_BDFS" >/sys/bus/pci/drivers_probe
BASALT_NOIOMMU=1 nvme_driver_guest_test
disk="nvme:pci:$NVME_BDFS/1"
if basalt ls "$disk" / 2>/tmp/refused; then
  echo "opened without having been allowed to"
  exit 1
fi
grep -q unsafe_noiommu /tmp/refused
basalt mkfs --force "$disk?unsafe_noiommu=1"
head -c 20000000 /dev/urandom >/tmp/file
basalt put "$disk?unsafe_noiommu=1" /tmp/file /file
basalt cat "$disk?unsafe_noiommu=1" /file | cmp - /tmp/file
basalt check "$disk?unsafe_noiommu=1"
