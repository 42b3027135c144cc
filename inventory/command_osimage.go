package inventory

// AddOSImage makes an osimage of a tree that the asked head has checked.
type AddOSImage struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	KernVer  string `json:"kernver"`
	KernOpts string `json:"kernopts,omitempty"`
	// GrabExcludeList is what grab leaves out to begin with.
	GrabExcludeList string `json:"grab_exclude_list,omitempty"`
	// From names the osimage of which the tree is a copy: it has its settings.
	From string `json:"from,omitempty"`
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
	Path            *string `json:"path,omitempty"`
	KernVer         *string `json:"kernver,omitempty"`
	KernOpts        *string `json:"kernopts,omitempty"`
	KernModules     *string `json:"kernmodules,omitempty"`
	DracutModules   *string `json:"dracutmodules,omitempty"`
	GrabExcludeList *string `json:"grab_exclude_list,omitempty"`
	GrabFilesystems *string `json:"grab_filesystems,omitempty"`
	Comment         *string `json:"comment,omitempty"`
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
