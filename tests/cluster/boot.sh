#!/usr/bin/env bash
# The first process of a host of the lab (lab.py): makes its disk, then runs its SSH server until it is killed.
#
#     boot.sh NUMBER FOLDER [LOOPBACK_NAME]
#
# It runs in namespaces of its own. FOLDER/disk/NUMBER holds what the host writes.
set -euo pipefail
number=$1 folder=$2 loopback_name=${3:-}
disk=$folder/disk/$number root=$folder/disk/$number/root

mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/changes,workdir=$disk/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=4G,mode=1777 shm "$root/dev/shm"
mount --bind "$disk/tmp" "$root/tmp"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir -p "$root/run/sshd" "$root/shared" "$root/wheels"
mount --bind "$folder/shared" "$root/shared"
mount --bind -o ro "$folder/wheels" "$root/wheels"
for folder_here in "$REPOSITORY" "$ENVIRONMENT"; do  # a node has no copy of the developer's files
  [ ! -d "$root$folder_here" ] || mount -t tmpfs -o mode=755 none "$root$folder_here"
done

if [ ! -d "$root/home/ubuntu" ]; then
  chroot "$root" useradd --create-home --shell /bin/bash --password '*' --uid "$USER_ID" ubuntu
  cp -a /etc/skel/. "$root/home/ubuntu/"
  mkdir -p "$root/home/ubuntu/.ssh"
  cp "$folder/laptop/.ssh/cluster.pub" "$root/home/ubuntu/.ssh/authorized_keys"
  printf '[global]\nno-index = true\nfind-links = /wheels\n' >"$root/etc/pip.conf"
  rm -f "$root"/etc/ssh/ssh_host_*
  rm -rf "$root/etc/ssh/sshd_config.d"
  chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  cat >"$root/etc/ssh/sshd_config" <<EOF
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM no
PasswordAuthentication no
MaxStartups 100
AcceptEnv LANG
Subsystem sftp /usr/lib/openssh/sftp-server
EOF
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  [ -z "$loopback_name" ] || printf '127.0.1.1 %s\n' "$loopback_name" >>"$root/etc/hosts"
  cat "$folder/hosts" >>"$root/etc/hosts"
  echo "node$number" >"$root/etc/hostname"
  # The interpreter of the prepared environment may lie in a closed home.
  while read -r parent; do chmod a+x "$root$parent"; done <"$folder/parents"
  [ ! -d "$disk/venv-changes" ] || mkdir -p "$root/home/ubuntu/venv"
  chroot "$root" chown -R ubuntu: /home/ubuntu
fi
if [ -d "$disk/venv-changes" ]; then
  mount -t overlay overlay -o \
    "lowerdir=$folder/disk/venv/changes:$ENVIRONMENT,upperdir=$disk/venv-changes,workdir=$disk/venv-work" \
    "$root/home/ubuntu/venv"
fi

hostname "node$number"
ip link set lo up
cd "$root"
exec chroot "$root" bash -c '/usr/sbin/sshd -D -e & while :; do wait -n 2>/dev/null || sleep 1; done'
