package fsm

import (
	"slices"

	"github.com/clustervision/luna/inventory"
)

// What 1.2 gave every new osimage.
const (
	defaultKernModules     = "ipmi_devintf,ipmi_si,ipmi_msghandler"
	defaultDracutModules   = "luna,-i18n,-plymouth"
	defaultGrabFilesystems = "/,/boot"
)

func addOSImage(tx *inventory.Tx, c inventory.AddOSImage) error {
	if _, ok := tx.OSImage(c.Name); ok {
		return inventory.Exists("osimage", c.Name)
	}
	if err := pathFree(tx, c.Name, c.Path); err != nil {
		return err
	}
	o := inventory.OSImage{
		KernModules: defaultKernModules, DracutModules: defaultDracutModules,
		GrabFilesystems: defaultGrabFilesystems, GrabExcludeList: c.GrabExcludeList, KernOpts: c.KernOpts,
	}
	if c.From != "" {
		from, ok := tx.OSImage(c.From)
		if !ok {
			return inventory.NotFound("osimage", c.From)
		}
		o = *from
		if c.KernOpts != "" {
			o.KernOpts = c.KernOpts
		}
	}
	o.ID, o.Name, o.Path, o.KernVer = tx.NewID(), c.Name, c.Path, c.KernVer
	tx.Put(&o)
	return nil
}

func pathFree(tx *inventory.Tx, name, path string) error {
	for o := range tx.OSImages() {
		if o.Path == path && o.Name != name {
			return inventory.Errorf(inventory.KindInvalid, "osimage", name, "Path belongs to osimage '%s'", o.Name)
		}
	}
	return nil
}

func changeOSImage(tx *inventory.Tx, c inventory.ChangeOSImage) error {
	old, ok := tx.OSImage(c.Name)
	if !ok {
		return inventory.NotFound("osimage", c.Name)
	}
	if c.Path != nil {
		if err := pathFree(tx, c.Name, *c.Path); err != nil {
			return err
		}
	}
	o := *old
	set(&o.Path, c.Path)
	set(&o.KernVer, c.KernVer)
	set(&o.KernOpts, c.KernOpts)
	set(&o.KernModules, c.KernModules)
	set(&o.DracutModules, c.DracutModules)
	set(&o.GrabExcludeList, c.GrabExcludeList)
	set(&o.GrabFilesystems, c.GrabFilesystems)
	setText(&o.Comment, c.Comment)
	tx.Put(&o)
	return nil
}

func deleteOSImage(tx *inventory.Tx, c inventory.DeleteOSImage) error {
	o, ok := tx.OSImage(c.Name)
	if !ok {
		return inventory.NotFound("osimage", c.Name)
	}
	var users []string
	for g := range tx.Groups() {
		if g.OSImage == o.ID {
			users = append(users, "[group/"+g.Name+"]")
		}
	}
	if len(users) > 0 {
		return inUse("osimage", c.Name, users)
	}
	for _, v := range slices.Collect(tx.VersionsOf(o.ID)) {
		tx.Delete(v)
	}
	tx.Delete(o)
	return nil
}

// versionsKept is how many ready versions of an osimage stay besides the one
// that is booted: nodes may be in the middle of the one before.
const versionsKept = 2

func publishVersion(tx *inventory.Tx, c inventory.PublishVersion) error {
	o, ok := tx.OSImage(c.OSImage)
	if !ok {
		return inventory.NotFound("osimage", c.OSImage)
	}
	head, ok := tx.Head(c.Head)
	if !ok {
		return inventory.NotFound("head", c.Head)
	}
	v := c.Version
	v.Image, v.Holders, v.Ready = o.ID, []inventory.ID{head.ID}, false
	if old, ok := tx.Version(v.ID); ok {
		if old.Image != o.ID {
			return inventory.Errorf(inventory.KindRefused, "osimage", c.OSImage, "version %s is already that of another osimage", v.ID)
		}
		v.Holders, v.Ready = union(old.Holders, head.ID), old.Ready
	}
	putVersion(tx, &v)
	forgetOld(tx, o)
	return nil
}

func union(ids []inventory.ID, id inventory.ID) []inventory.ID {
	if slices.Contains(ids, id) {
		return ids
	}
	ids = append(slices.Clone(ids), id)
	slices.Sort(ids)
	return ids
}

func putVersion(tx *inventory.Tx, v *inventory.ImageVersion) {
	v.Ready = v.Ready || len(v.Holders) >= tx.Replicas()
	tx.Put(v)
}

// countHolders looks again at the versions of which there were too few copies, where fewer
// are asked for than before.
func countHolders(tx *inventory.Tx) {
	if tx.Format() < 2 {
		return // heads of the last release do not
	}
	for _, old := range slices.Collect(tx.Versions()) {
		o, ok := tx.OSImageByID(old.Image)
		if v := *old; ok && !v.Ready {
			putVersion(tx, &v)
			forgetOld(tx, o)
		}
	}
}

func recordHolder(tx *inventory.Tx, c inventory.RecordHolder) error {
	old, ok := tx.Version(c.Version)
	if !ok {
		return inventory.NotFound("version", c.Version)
	}
	head, ok := tx.Head(c.Head)
	if !ok {
		return inventory.NotFound("head", c.Head)
	}
	v := *old
	if c.Held {
		v.Holders = union(v.Holders, head.ID)
	} else {
		v.Holders = slices.DeleteFunc(slices.Clone(v.Holders), func(id inventory.ID) bool { return id == head.ID })
	}
	putVersion(tx, &v)
	if o, ok := tx.OSImageByID(v.Image); ok {
		forgetOld(tx, o)
	}
	return nil
}

// forgetOld drops what no node will boot again: versions that are older than
// the one that is booted, but for the last few.
func forgetOld(tx *inventory.Tx, o *inventory.OSImage) {
	boot, ok := tx.BootVersion(o.ID)
	if !ok {
		return
	}
	var older []*inventory.ImageVersion
	for v := range tx.VersionsOf(o.ID) {
		if v.ID != boot.ID && v.Created.Before(boot.Created) {
			older = append(older, v)
		}
	}
	slices.SortFunc(older, func(a, b *inventory.ImageVersion) int { return b.Created.Compare(a.Created) })
	for i, v := range older {
		if i >= versionsKept {
			tx.Delete(v)
		}
	}
}

func deleteVersion(tx *inventory.Tx, c inventory.DeleteVersion) error {
	v, ok := tx.Version(c.Version)
	if !ok {
		return inventory.NotFound("version", c.Version)
	}
	if boot, ok := tx.BootVersion(v.Image); ok && boot.ID == v.ID {
		return inventory.Errorf(inventory.KindInUse, "version", c.Version, "version %s is the one that nodes boot: pack the image anew first", c.Version)
	}
	tx.Delete(v)
	return nil
}
