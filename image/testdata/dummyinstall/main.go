// Command dummyinstall stands in for luna-install in the tests of the initrd. It crashes once, then
// makes a root file system of nothing but itself, in which it is the init that ends the test.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		fmt.Println("DUMMY: switch_root worked")
		time.Sleep(time.Second) // for the serial line
		_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	}
	if err := install(os.Getenv("NEWROOT")); err != nil {
		fmt.Println("DUMMY:", err)
		os.Exit(1)
	}
}

func install(root string) error {
	if _, err := os.Stat("/run/crashed"); err != nil {
		fmt.Println("DUMMY: crash")
		return os.WriteFile("/run/crashed", nil, 0o644) // and nothing is mounted
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		driver, _ := os.Readlink("/sys/class/net/" + i.Name + "/device/driver")
		fmt.Printf("DUMMY: interface %s %s %s\n", i.Name, i.HardwareAddr, filepath.Base(driver))
	}
	disks, _ := filepath.Glob("/sys/class/block/*")
	fmt.Println("DUMMY: disks", strings.Join(disks, " "))
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "sbin", "etc"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	// Without it systemd does not take a directory for a root.
	if err := os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("ID=dummy\n"), 0o644); err != nil {
		return err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	init, err := os.OpenFile(filepath.Join(root, "sbin/init"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(init, self); err != nil {
		return err
	}
	return init.Close()
}
