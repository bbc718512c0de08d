# The profile of containers, as Docker has it: everything that the container's namespaces, capabilities and mounts allow,
# but no mounts, nothing written to the kernel's settings, and no signals or traces across the profile's edge.
profile docker-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  # ENGINE
  signal (send, receive) peer=docker-default,
  ptrace (trace, read, tracedby, readby) peer=docker-default,

  deny mount,

  # /proc: a process' own directory may be written, and kernel.shm* below /proc/sys, which is the container's own.
  deny /proc/* w,
  deny /proc/{[^1-9s]*,s[^y]*,sy[^s]*,sys?*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/{[^s]*,s[^h]*,sh[^m]*}{,/**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # /sys: only the control groups may be written.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
