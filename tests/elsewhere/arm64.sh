#!/bin/bash
# Build and test on arm64: Debian 12 and its kernel in an emulated machine, with a clean clone of the last commit.
#
#   tests/elsewhere/arm64.sh FOLDER [COMMAND]
#
# The disk is kept in FOLDER for the next time; what the machine says goes to stdout, and its dist/ to FOLDER/dist. Without
# COMMAND it is the static build, and the tests that need no engine. All of it is emulated, so that it takes an hour or two.
set -euo pipefail
source=$(realpath "$(dirname "$0")/../..") folder=$(realpath -m "$1")
commands=${2-'make test LINK=static PYTEST_ARGS="--ignore tests/containers"'}
mirror=http://deb.debian.org/debian
mkdir -p "$folder"
cd "$folder"

prepare() {
    # The disk: unpacked here, and installed there when it is first started.
    rm -rf root kernel lists initramfs disk
    debootstrap --arch=arm64 --foreign --variant=minbase --include=ca-certificates,git,make bookworm root "$mirror" \
        >debootstrap.log
    cp -L /etc/ssl/certs/ca-certificates.crt root/root/
    [ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf root/etc/
    echo nameserver 10.0.2.3 >root/etc/resolv.conf # qemu's own
    printf '127.0.0.1\tlocalhost\n' >root/etc/hosts
    truncate -s 8G disk.new
    mke2fs -q -t ext4 -d root disk.new
    rm -rf root

    # The kernel, with lists of sources for this alone.
    mkdir -p lists/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >sources.list
    options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc::SourceList="$PWD/sources.list"
        -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$PWD/lists" -o Dir::Cache::pkgcache=
        -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    package=$(apt-cache "${options[@]}" depends linux-image-arm64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p')
    rm -f ./*.deb
    apt-get "${options[@]}" download "$package" busybox-static
    for deb in linux-image-*.deb busybox-static_*.deb; do
        dpkg-deb -x "$deb" kernel
    done
    version=${package#linux-image-}

    # What it starts with: the modules for its disks and its network card, in the order in which they are loaded.
    mkdir -p initramfs/{bin,dev,proc,sys,root,modules}
    cp kernel/bin/busybox initramfs/bin/
    depmod -b kernel "$version"
    modprobe -d kernel -S "$version" --show-depends -a virtio_pci virtio_blk virtio_net ext4 virtio_rng |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >modules
    while read -r module; do
        cp "$module" initramfs/modules/
        echo "insmod /modules/${module##*/}"
    done <modules >initramfs/load
    cat >initramfs/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
. /load
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
mount /dev/vda /root
[ ! -e /root/src ] || mv /root/src/.work /root/work # what make keeps for the next time: virtual environments, above all
rm -rf /root/src
tar xf /dev/vdb -C /root
[ ! -e /root/work ] || { rm -rf /root/src/.work; mv /root/work /root/src/.work; }
for folder in dev proc sys; do
    [ ! -h /root/$folder ] || rm /root/$folder # debootstrap's, where no proc can be mounted
    mkdir -p /root/$folder
    mount --move /$folder /root/$folder
done
exec switch_root /root /bin/sh /start
END
    chmod +x initramfs/init
    (cd initramfs && find . | cpio -o -H newc --quiet | gzip -1 >../initramfs.gz)
    cp -L kernel/boot/vmlinuz-* vmlinuz
    rm -rf kernel initramfs lists
    mv disk.new disk
}
[ -e disk ] || prepare

# What goes in: the clone, what is to be done, and how PID 1 has it done; what comes out is dist/.
rm -rf in
git -c safe.directory="$source" clone -q "$source" in/src
printf '%s\n' "set -ex" "cd /src" "export PYTEST_TIMEOUT=7200" "$commands" >in/commands
cat >in/start <<'END'
export PIP_CERT=/etc/ssl/certs/ca-certificates.crt DEBIAN_FRONTEND=noninteractive
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
for folder in /dev/shm /tmp /run; do mount -t tmpfs tmpfs $folder; done
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s fd/${number%:*} /dev/${number#*:}; done
if [ -e /debootstrap ]; then
    /debootstrap/debootstrap --second-stage
    mv /root/ca-certificates.crt /etc/ssl/certs/
fi
code=0
setsid bash /commands </dev/null || code=$?
tar cf /dev/vdc -C /src dist
echo "arm64: exit code $code"
for key in s u o; do echo $key >/proc/sysrq-trigger; sleep 1; done
sleep 60
END
tar cf in.tar -C in .
truncate -s 256M out.tar
qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on -accel tcg,thread=multi -smp 2 -m 3072 \
    -nic user,model=virtio-net-pci -device virtio-rng-pci -display none -serial stdio -monitor none -no-reboot \
    -kernel vmlinuz -initrd initramfs.gz -append 'console=ttyAMA0 quiet panic=-1' \
    -drive file=disk,format=raw,if=virtio,cache=unsafe \
    -drive file=in.tar,format=raw,if=virtio,readonly=on -drive file=out.tar,format=raw,if=virtio </dev/null |
    sed -u 's/\r$//' | tee said
tar xf out.tar
rm -rf in in.tar out.tar
grep -q '^arm64: exit code 0$' said
