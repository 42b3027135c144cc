package inventory

// AddOSImage makes an osimage of a tree that the asked head has checked.
type AddOSImage struct {
	Name     string `json:"name"`
	Path     string `json:"path" doc:"where the tree lies, absolute"`
	KernVer  string `json:"kernver" doc:"version of the kernel to boot; the newest in the tree if empty"`
	KernOpts string `json:"kernopts,omitempty" doc:"kernel options, one line"`
	// GrabExcludeList is what grab leaves out to begin with.
	GrabExcludeList string `json:"grab_exclude_list,omitempty" doc:"what grab leaves out, patterns of rsync"`
	// From names the osimage of which the tree is a copy: it has its settings.
	From string `json:"from,omitempty" doc:"the osimage whose settings it gets"`
}

func (c AddOSImage) Validate() error {
	if err := CheckName("osimage", c.Name); err != nil {
		return err
	}
	if err := checkPath(c.Name, c.Path); err != nil {
		return err
	}
	return checkKernopts(c.Name, c.KernOpts)
}

// ChangeOSImage sets what is given.
type ChangeOSImage struct {
	Name            string  `json:"name,omitempty"`
	Path            *string `json:"path,omitempty" doc:"where the tree lies, absolute"`
	KernVer         *string `json:"kernver,omitempty" doc:"version of the kernel to boot; the newest in the tree if empty"`
	KernOpts        *string `json:"kernopts,omitempty" doc:"kernel options, one line"`
	KernModules     *string `json:"kernmodules,omitempty" doc:"of the initrd, comma separated; -x leaves x out"`
	DracutModules   *string `json:"dracutmodules,omitempty" doc:"of the initrd, comma separated; -x leaves x out"`
	GrabExcludeList *string `json:"grab_exclude_list,omitempty" doc:"what grab leaves out, patterns of rsync"`
	GrabFilesystems *string `json:"grab_filesystems,omitempty" doc:"what grab takes, comma separated"`
	Comment         *string `json:"comment,omitempty" doc:"empty unsets"`
}

func (c ChangeOSImage) Validate() error {
	if c.Path != nil {
		if err := checkPath(c.Name, *c.Path); err != nil {
			return err
		}
	}
	if c.KernOpts != nil {
		if err := checkKernopts(c.Name, *c.KernOpts); err != nil {
			return err
		}
	}
	return checkTexts("osimage", c.Name, c.KernModules, c.DracutModules, c.GrabExcludeList, c.GrabFilesystems, c.Comment)
}

// DeleteOSImage removes an osimage that no group uses, and its versions.
type DeleteOSImage struct {
	Name string `json:"name"`
}

func (c DeleteOSImage) Validate() error { return nil }

// PublishVersion makes a packed version known, held by one head so far.
type PublishVersion struct {
	OSImage string       `json:"osimage"`
	Version ImageVersion `json:"version"` // ID, Created, KernVer, artifacts, UnpackedSize
	Head    string       `json:"head"`
}

func (c PublishVersion) Validate() error {
	if len(c.Version.ID) != 16 {
		return invalid("osimage", c.OSImage, "'%s' is no version ID", c.Version.ID)
	}
	for _, a := range []Artifact{c.Version.Root, c.Version.Kernel, c.Version.Initrd} {
		if len(a.SHA256) != 64 || a.Size <= 0 || len(a.Descriptor) == 0 {
			return invalid("osimage", c.OSImage, "version %s has an incomplete artifact", c.Version.ID)
		}
	}
	return nil
}

// RecordHolder says that a head has a version on disk, or has it no more.
type RecordHolder struct {
	Version string `json:"version"`
	Head    string `json:"head"`
	Held    bool   `json:"held"`
}

func (c RecordHolder) Validate() error { return nil }

// DeleteVersion forgets a version; the heads then delete its artifacts.
type DeleteVersion struct {
	Version string `json:"version"`
}

func (c DeleteVersion) Validate() error { return nil }
