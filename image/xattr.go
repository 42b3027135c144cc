package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// PAX keys of extended attributes and ACLs, as star, GNU tar and bsdtar write and read them.
const (
	xattrKey      = "SCHILY.xattr."
	aclAccessKey  = "SCHILY.acl.access"
	aclDefaultKey = "SCHILY.acl.default"

	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// keepXattr tells which attributes belong to the tree. trusted.* (overlayfs) and the rest of
// security.* and system.* belong to the file system or machine that the tree happens to be on.
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "security.selinux", "security.ima", aclAccess, aclDefault:
		return true
	}
	return strings.HasPrefix(name, "user.")
}

// xattrRecords reads the attributes of a file, not following a link, into PAX records.
// It is nil for a file without any.
func xattrRecords(path string) (map[string]string, error) {
	list, err := readXattr(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var records map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if !keepXattr(name) {
			continue
		}
		value, err := readXattr(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // an attribute that a security module lists but does not have
		}
		if err != nil {
			return nil, fmt.Errorf("read the extended attribute %s: %w", name, err)
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrKey+escapeKey(name)] = string(value)
		key := map[string]string{aclAccess: aclAccessKey, aclDefault: aclDefaultKey}[name]
		if key == "" {
			continue
		}
		if records[key], err = aclText(value); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// readXattr calls read with a buffer that is large enough, of 64 KiB (the kernel's limit) at most.
func readXattr(read func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := read(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = read(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// A PAX key ends at the first '='; GNU tar hides those of an attribute's name as %3D.
func escapeKey(name string) string {
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

func unescapeKey(key string) string {
	return strings.NewReplacer("%25", "%", "%3D", "=").Replace(key)
}

// setXattrs gives a file the attributes in records; set calls the system with one. Attributes
// that the file system cannot hold are counted in lost.
func setXattrs(records map[string]string, unprivileged bool, set func(name string, value []byte) error) (lost int64, err error) {
	for key, value := range records {
		name, ok := strings.CutPrefix(key, xattrKey)
		if !ok {
			continue
		}
		name = unescapeKey(name)
		if !keepXattr(name) || unprivileged && strings.HasPrefix(name, "security.") {
			continue
		}
		err := set(name, []byte(value))
		if errors.Is(err, unix.ENOTSUP) {
			lost++
		} else if err != nil {
			return lost, fmt.Errorf("set the extended attribute %s: %w", name, err)
		}
	}
	return lost, nil
}

// aclText turns the kernel's form of a POSIX ACL into the text that tar programs read, with
// numbers in place of names: the tree's users are not this machine's. The binary form is that of
// linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id, all little endian.
func aclText(b []byte) (string, error) {
	const version, entrySize = 2, 8
	if len(b) < 4 || len(b)%entrySize != 4 || binary.LittleEndian.Uint32(b) != version {
		return "", fmt.Errorf("an ACL in a form that is not known (%x)", b)
	}
	var text []string
	for b = b[4:]; len(b) > 0; b = b[entrySize:] {
		id, who := binary.LittleEndian.Uint32(b[4:]), ""
		switch tag := binary.LittleEndian.Uint16(b); tag {
		case 0x01:
			who = "user:"
		case 0x02:
			who = fmt.Sprintf("user:%d", id)
		case 0x04:
			who = "group:"
		case 0x08:
			who = fmt.Sprintf("group:%d", id)
		case 0x10:
			who = "mask:"
		case 0x20:
			who = "other:"
		default:
			return "", fmt.Errorf("an ACL with an entry of unknown type %#x", tag)
		}
		perm := []byte("---")
		for i, bit := range []uint16{4, 2, 1} {
			if binary.LittleEndian.Uint16(b[2:])&bit != 0 {
				perm[i] = "rwx"[i]
			}
		}
		text = append(text, who+":"+string(perm))
	}
	return strings.Join(text, ","), nil
}
