# Sourced in a mount namespace of its own, with `work` and `controllers` set: a copy in memory of this machine's root, with
# /job and the controllers of cgroup v1 (systemd's "hybrid" setup) in it, becomes the directory of now.
mount --make-rprivate /
mount -t tmpfs memory "$work/memory"
mkdir "$work/memory/upper" "$work/memory/work"
mount -t overlay root -o "lowerdir=/,upperdir=$work/memory/upper,workdir=$work/memory/work" "$work/root"
cd "$work/root"
mkdir -p job
mount --bind "$work/job" job
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
for dir in run tmp; do mount -t tmpfs "$dir" "$dir"; done
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
for controller in $controllers; do
    mkdir "sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
done
mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
