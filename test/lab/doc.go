// Package lab is a small data centre inside one machine: what the black-box tests and the demo run in.
//
// A [Lab] has networks, which are bridges, and on them
//
//   - hosts ([Host]): network namespaces in which real programs run ([Process]), such as the heads;
//   - machines ([Machine]): QEMU, with the firmware that real nodes have, a network card and a
//     serial console that can be read and typed on;
//   - containers ([Container]): hosts that booted a systemd of their own, as heads on real servers
//     do, for what packages and Ansible do to a machine;
//   - simulated nodes ([Node]): hosts that boot as a machine does, by a real DHCP exchange, TFTP,
//     an iPXE script and the real installer, for a hundredth of a machine's CPU time.
//
// [DebianTree] builds the operating system that machines boot: a small real Debian. [HeadTree]
// builds that of containers.
//
// Nothing of it touches the network of the machine that it runs on: bridges, taps and addresses
// live in namespaces of the lab's own, named after the lab and the process that made it, so that
// two labs run side by side. All of it goes away with [Lab.Close]. What a killed process left
// behind is removed by the next lab that is made: a lab holds a lock while it lives, and a lab
// whose lock can be had is dead.
//
// It needs root, Linux network namespaces and the programs that deps.sh installs; [Check] says
// what is missing. Machines are emulated (TCG) always: where virtual machines are offered by a
// cloud, /dev/kvm is often there and slower than none.
package lab
