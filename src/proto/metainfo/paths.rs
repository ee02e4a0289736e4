//! Where the files of a torrent lie: all names in one text, of a folder that files in a row share once.

use std::ops::Range;

/// The paths of files below the download folder: safe names, folders first. In a torrent of several files the first one
/// is the torrent's name. Files that do not exist have no name.
#[derive(Clone, Default, Debug)]
pub struct Paths {
    text: String,
    files: Vec<Place>,
}

/// Where in the text the names of a file are. It is less than 4 GiB long: see [`super::info`].
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its folders with a slash between them.
    folder: u32,
    folder_len: u16,
    /// No longer than `limits::NAME_MAX`.
    name_len: u16,
    name: u32,
}

impl Place {
    fn folder(&self) -> Range<usize> {
        self.folder as usize..self.folder as usize + usize::from(self.folder_len)
    }

    fn name(&self) -> Range<usize> {
        self.name as usize..self.name as usize + usize::from(self.name_len)
    }
}

impl Paths {
    /// Room for so many files.
    pub(super) fn with_capacity(files: usize) -> Paths {
        Paths { text: String::new(), files: Vec::with_capacity(files) }
    }

    /// Adds the path of the next file; `folder` has slashes between its names.
    pub(super) fn push(&mut self, folder: &str, name: &str) {
        let last =
            self.files.last().map(|last| last.folder()).filter(|last| self.text[last.clone()] == *folder);
        let folder = last.unwrap_or_else(|| self.add(folder));
        let name = self.add(name);
        let short = |range: &Range<usize>| range.len() as u16;
        self.files.push(Place {
            folder: folder.start as u32,
            folder_len: short(&folder),
            name_len: short(&name),
            name: name.start as u32,
        });
    }

    /// Gives a file another name.
    pub(super) fn rename(&mut self, file: usize, name: &str) {
        let name = self.add(name);
        if let Some(place) = self.files.get_mut(file) {
            (place.name, place.name_len) = (name.start as u32, name.len() as u16);
        }
    }

    /// Gives a file another path, whatever others have.
    #[cfg(test)]
    pub(crate) fn put(&mut self, file: usize, folder: &str, name: &str) {
        self.push(folder, name);
        self.files[file] = self.files.remove(self.files.len() - 1);
    }

    /// No more files will come.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.files.shrink_to_fit();
    }

    fn add(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// The folders of a file with a slash between them; empty for a file of its own.
    pub fn folder(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |place| &self.text[place.folder()])
    }

    /// The names of the folders of a file, the outermost first.
    pub fn folders(&self, file: usize) -> impl Iterator<Item = &str> + Clone {
        self.folder(file).split('/').filter(|name| !name.is_empty())
    }

    /// The name of a file in its folder.
    pub fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |place| &self.text[place.name()])
    }

    /// The names that lead to a file, its own last.
    pub fn names(&self, file: usize) -> impl Iterator<Item = &str> + Clone {
        self.folders(file).chain(Some(self.name(file)).filter(|name| !name.is_empty()))
    }

    /// The length of a path with `/` between its names, in bytes.
    pub(super) fn len(&self, file: usize) -> usize {
        let (folder, name) = (self.folder(file).len(), self.name(file).len());
        if folder == 0 { name } else { folder + 1 + name }
    }

    /// The path with `/` between its names, relative to the download folder.
    pub fn display(&self, file: usize) -> String {
        let folder = self.folder(file);
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("{folder}{slash}{}", self.name(file))
    }
}
