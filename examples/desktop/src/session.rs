//! What a person has done so far: photos, classes, which photo is of which class. Knows nothing of windows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tipi::{Examples, FitOptions, How, ImageFeatures, Method, Picture, Result};

/// A class, known by a number that stays when its name changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ClassId(pub u32);

/// A class to sort into.
#[derive(Clone, Debug)]
pub struct Class {
    pub id: ClassId,
    pub name: String,
}

/// Where a photo belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Class(ClassId),
    Unknown,
}

/// What the model says of a photo.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Probabilities, in the order of the classes that were asked for; they add up to 1.
    pub probabilities: Vec<f64>,
    /// The likeliest class's place among them.
    pub best: usize,
}

/// A photo of the folder, or an example from elsewhere.
pub struct Photo {
    pub picture: Picture,
    /// Why it cannot be used.
    pub broken: Option<String>,
    /// Its place in [`Session::features`].
    row: Option<usize>,
    /// Where a person put it. In a class it is an example.
    pub hand: Option<Place>,
    pub answer: Option<Answer>,
    /// Whether it lies in the folder that is sorted.
    pub in_folder: bool,
}

impl Photo {
    pub fn path(&self) -> &Path {
        self.picture.path()
    }

    pub fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn is_encoded(&self) -> bool {
        self.row.is_some()
    }
}

/// How to learn.
#[derive(Clone, PartialEq)]
pub struct Settings {
    pub method: Method,
    /// A prompt with `{}` where the class's name goes.
    pub template: String,
    /// Random views of each example; 1 takes the pictures as they are.
    pub views: usize,
    /// Below this probability a photo is of no class.
    pub least: f64,
}

/// What there is to learn.
pub enum Lesson {
    /// Too little: no class to tell from another.
    None,
    /// Names alone.
    Words { classes: Vec<String>, template: String },
    /// A picture of every class, at least.
    Pictures { examples: Box<Examples>, options: Box<FitOptions> },
}

/// A step that can be taken back: where photos were before it.
struct Before(Vec<(usize, Option<Place>)>);

/// Everything that a person has done in a folder.
pub struct Session {
    pub folder: Option<PathBuf>,
    pub photos: Vec<Photo>,
    pub classes: Vec<Class>,
    pub settings: Settings,
    /// Classes in the order of the answers' probabilities.
    pub answered: Vec<ClassId>,
    /// Counts changes of what is learned from.
    pub version: u64,
    numbers: HashMap<PathBuf, usize>,
    features: Vec<f32>,
    width: usize,
    examples: Examples,
    next: u32,
    history: Vec<Before>,
}

impl Session {
    pub fn new(method: Method, template: &str) -> Session {
        let settings = Settings { method, template: template.into(), views: 1, least: 0.5 };
        Session {
            folder: None,
            photos: Vec::new(),
            classes: Vec::new(),
            settings,
            answered: Vec::new(),
            version: 0,
            numbers: HashMap::new(),
            features: Vec::new(),
            width: 0,
            examples: Examples::new(),
            next: 0,
            history: Vec::new(),
        }
    }

    /// Begins anew in another folder, with the same classes' names and settings.
    pub fn open(&mut self, folder: PathBuf, pictures: Vec<Picture>) {
        let mut other = Session::new(self.settings.method, &self.settings.template);
        other.settings = self.settings.clone();
        other.classes = std::mem::take(&mut self.classes);
        (other.next, other.version) = (self.next, self.version + 1);
        other.folder = Some(folder);
        other.add(pictures, true);
        *self = other;
    }

    fn add(&mut self, pictures: Vec<Picture>, in_folder: bool) -> Vec<usize> {
        let mut add = |picture: Picture| {
            let number = *self.numbers.entry(picture.path().into()).or_insert(self.photos.len());
            if number == self.photos.len() {
                self.photos.push(Photo { picture, broken: None, row: None, hand: None, answer: None, in_folder });
            }
            number
        };
        pictures.into_iter().map(&mut add).collect()
    }

    /// The folder's pictures.
    pub fn in_folder(&self) -> Vec<Picture> {
        self.photos.iter().filter(|photo| photo.in_folder).map(|photo| photo.picture.clone()).collect()
    }

    /// Files lie elsewhere now, or, `back`, where they were before.
    pub fn moved(&mut self, plan: &crate::files::Plan, back: bool) {
        if !plan.moves {
            return;
        }
        for step in &plan.steps {
            let (from, to) = if back { (&step.to, &step.from) } else { (&step.from, &step.to) };
            // What could not be moved stayed.
            if to.exists()
                && let Some(number) = self.numbers.remove(from)
            {
                self.photos[number].picture = Picture::file(to);
                self.numbers.insert(to.clone(), number);
            }
        }
    }

    /// Files that are examples, in the folder or from elsewhere.
    pub fn add_files(&mut self, files: Vec<PathBuf>, class: ClassId) {
        let numbers = self.add(files.into_iter().map(Picture::file).collect(), false);
        self.put(&numbers, Some(Place::Class(class)));
    }

    /// Makes a class; one of this name that is there already is taken.
    pub fn add_class(&mut self, name: &str) -> Option<ClassId> {
        let name = name.trim();
        if name.is_empty() {
            return None;
        }
        if let Some(class) = self.classes.iter().find(|class| class.name.to_lowercase() == name.to_lowercase()) {
            return Some(class.id);
        }
        let id = ClassId(self.next);
        self.next += 1;
        self.classes.push(Class { id, name: name.into() });
        self.version += 1;
        Some(id)
    }

    /// Gives a class another name, which no other class may have.
    pub fn rename(&mut self, id: ClassId, name: &str) -> bool {
        let name = name.trim();
        let free = |class: &Class| class.id == id || class.name.to_lowercase() != name.to_lowercase();
        let renamed = !name.is_empty() && self.classes.iter().all(free);
        if let (true, Some(class)) = (renamed, self.classes.iter_mut().find(|class| class.id == id)) {
            class.name = name.into();
            self.version += 1;
        }
        renamed
    }

    pub fn remove_class(&mut self, id: ClassId) {
        self.classes.retain(|class| class.id != id);
        for photo in &mut self.photos {
            photo.hand = photo.hand.filter(|place| *place != Place::Class(id));
        }
        // Steps that led to it cannot be taken back.
        self.history.clear();
        self.version += 1;
    }

    /// Puts photos where a person says they belong; none takes their word back.
    pub fn put(&mut self, photos: &[usize], place: Option<Place>) {
        let mut before = Vec::new();
        for number in photos {
            let Some(photo) = self.photos.get_mut(*number).filter(|photo| photo.hand != place) else { continue };
            before.push((*number, photo.hand));
            photo.hand = place;
        }
        if !before.is_empty() {
            self.history.push(Before(before));
            self.version += 1;
        }
    }

    /// Takes the last step back, if there is one.
    pub fn undo(&mut self) -> bool {
        let Some(Before(places)) = self.history.pop() else { return false };
        for (number, place) in places {
            self.photos[number].hand = place;
        }
        self.version += 1;
        true
    }

    pub fn can_undo(&self) -> bool {
        !self.history.is_empty()
    }

    /// The name of a place.
    pub fn name(&self, place: Place) -> &str {
        match place {
            Place::Class(id) => self.class(id).map_or("", |class| &class.name),
            Place::Unknown => "unknown",
        }
    }

    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == id)
    }

    /// Where a photo is sorted to, and how sure that is; nowhere before there is an answer.
    pub fn place(&self, photo: &Photo) -> Option<(Place, f64)> {
        if let Some(place) = photo.hand {
            return Some((place, 1.0));
        }
        let answer = photo.answer.as_ref()?;
        let (class, probability) = (self.answered.get(answer.best)?, answer.probabilities.get(answer.best)?);
        let known = *probability >= self.settings.least && self.class(*class).is_some();
        Some((if known { Place::Class(*class) } else { Place::Unknown }, *probability))
    }

    /// Examples of a class.
    pub fn examples_of(&self, id: ClassId) -> impl Iterator<Item = usize> {
        let is = move |photo: &Photo| photo.hand == Some(Place::Class(id)) && photo.broken.is_none();
        (0..self.photos.len()).filter(move |number| is(&self.photos[*number]))
    }

    /// Classes that need a picture before pictures can be learned from; none while names alone decide.
    pub fn waiting(&self) -> Vec<ClassId> {
        let without: Vec<ClassId> =
            self.classes.iter().map(|class| class.id).filter(|id| self.examples_of(*id).next().is_none()).collect();
        if without.len() == self.classes.len() { Vec::new() } else { without }
    }

    /// What there is to learn now.
    pub fn lesson(&self) -> Lesson {
        if self.classes.len() < 2 {
            return Lesson::None;
        }
        let names = || self.classes.iter().map(|class| class.name.clone()).collect();
        let all = self.classes.iter().all(|class| self.examples_of(class.id).next().is_some());
        if !all {
            return Lesson::Words { classes: names(), template: self.settings.template.clone() };
        }
        // What was computed of examples before is remembered.
        let mut examples = self.examples.clone();
        examples.clear();
        for class in &self.classes {
            for number in self.examples_of(class.id) {
                examples.add(&class.name, self.photos[number].picture.clone());
            }
        }
        let Settings { method, template, views, .. } = &self.settings;
        let mut options = FitOptions::new(*method).with_template(template);
        options.how = How { key_views: *views, augment: *views > 1, ..options.how };
        Lesson::Pictures { examples: Box::new(examples), options: Box::new(options) }
    }

    /// Keeps a photo's features, or why there are none.
    pub fn encoded(&mut self, number: usize, row: std::result::Result<Vec<f32>, String>) {
        let Some(photo) = self.photos.get_mut(number) else { return };
        match row {
            Ok(row) if photo.row.is_none() => {
                self.width = row.len();
                photo.row = Some(self.features.len() / self.width.max(1));
                self.features.extend(row);
            }
            Ok(_) => {}
            Err(why) => photo.broken = Some(why),
        }
    }

    fn row(&self, number: usize) -> Option<&[f32]> {
        let row = self.photos.get(number)?.row?;
        self.features.get(row * self.width..(row + 1) * self.width)
    }

    /// Features of these photos, as far as they are encoded, with the photos' numbers.
    pub fn features_of(&self, photos: impl Iterator<Item = usize>) -> Option<(Vec<usize>, ImageFeatures)> {
        let (mut numbers, mut values) = (Vec::new(), Vec::new());
        for number in photos {
            if let Some(row) = self.row(number) {
                numbers.push(number);
                values.extend_from_slice(row);
            }
        }
        Some((numbers, ImageFeatures::new(values, self.width.max(1)).ok()?))
    }

    /// Photos that are neither encoded nor broken.
    pub fn unencoded(&self) -> Vec<usize> {
        let waits = |photo: &Photo| photo.row.is_none() && photo.broken.is_none();
        let mut numbers: Vec<usize> = (0..self.photos.len()).filter(|number| waits(&self.photos[*number])).collect();
        // Examples first: they are what is waited for.
        numbers.sort_by_key(|number| self.photos[*number].hand.is_none());
        numbers
    }

    /// Keeps answers in the order of `answered`.
    pub fn answer(&mut self, number: usize, probabilities: Vec<f64>) {
        let best = (0..probabilities.len()).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
        if let (Some(photo), Some(best)) = (self.photos.get_mut(number), best) {
            photo.answer = Some(Answer { probabilities, best });
        }
    }

    /// Forgets what was said of photos.
    pub fn forget_answers(&mut self) {
        self.answered.clear();
        self.photos.iter_mut().for_each(|photo| photo.answer = None);
    }

    /// Examples that are most like a photo, with the cosine of the angle between the two; the photo itself is left out.
    pub fn neighbours(&self, number: usize, most: usize) -> Vec<(usize, f32)> {
        let examples = (0..self.photos.len())
            .filter(|other| *other != number && matches!(self.photos[*other].hand, Some(Place::Class(_))));
        let near = || -> Option<Result<Vec<(usize, f32)>>> {
            let (_, asked) = self.features_of(std::iter::once(number))?;
            let (numbers, others) = self.features_of(examples)?;
            let near = asked.nearest(&others, most).map(|mut near| match near.is_empty() {
                true => Vec::new(),
                false => near.swap_remove(0).into_iter().map(|near| (numbers[near.row], near.cosine)).collect(),
            });
            Some(near)
        };
        near().and_then(Result::ok).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut session = Session::new(Method::named("tip-adapter").unwrap(), "a photo of a {}.");
        session.open("/photos".into(), ["a", "b", "c"].map(|name| Picture::file(format!("/photos/{name}.png"))).into());
        session
    }

    #[test]
    fn a_person_s_word_stands_above_the_model_s_and_can_be_taken_back() {
        let mut session = session();
        let cat = session.add_class("cat").unwrap();
        let dog = session.add_class(" dog ").unwrap();
        assert_eq!(session.add_class("DOG"), Some(dog));
        assert_eq!(session.add_class("  "), None);
        session.answered = vec![cat, dog];
        session.answer(0, vec![0.3, 0.7]);
        session.answer(1, vec![0.55, 0.45]);
        assert_eq!(session.place(&session.photos[0]), Some((Place::Class(dog), 0.7)));
        session.settings.least = 0.6;
        assert_eq!(session.place(&session.photos[1]), Some((Place::Unknown, 0.55)));
        assert_eq!(session.place(&session.photos[2]), None);
        let version = session.version;
        session.put(&[0, 1], Some(Place::Class(cat)));
        assert_eq!(session.place(&session.photos[0]), Some((Place::Class(cat), 1.0)));
        assert!(session.undo() && !session.undo() && session.version > version);
        assert_eq!(session.place(&session.photos[0]), Some((Place::Class(dog), 0.7)));
        // A class that is gone takes its photos' answers with it.
        session.remove_class(dog);
        assert_eq!(session.place(&session.photos[0]), Some((Place::Unknown, 0.7)));
    }

    #[test]
    fn names_decide_until_every_class_has_a_picture() {
        let mut session = session();
        assert!(matches!(session.lesson(), Lesson::None));
        let cat = session.add_class("cat").unwrap();
        let dog = session.add_class("dog").unwrap();
        assert!(matches!(session.lesson(), Lesson::Words { classes, .. } if classes == ["cat", "dog"]));
        assert!(session.waiting().is_empty());
        session.put(&[0], Some(Place::Class(cat)));
        assert!(matches!(session.lesson(), Lesson::Words { .. }));
        assert_eq!(session.waiting(), [dog]);
        session.add_files(vec!["/elsewhere/d.png".into(), "/photos/b.png".into()], dog);
        assert_eq!(session.photos.len(), 4, "a photo of the folder is not added again");
        let Lesson::Pictures { examples, .. } = session.lesson() else { panic!("there are pictures of all classes") };
        assert_eq!(examples.support().map(|(class, _)| class).collect::<Vec<_>>(), [0, 1, 1]);
        // A broken one teaches nothing.
        session.encoded(0, Err("it is cut short".into()));
        assert!(matches!(session.lesson(), Lesson::Words { .. }));
        assert!(!session.rename(cat, "Dog") && session.rename(cat, "kitten"));
    }

    #[test]
    fn neighbours_are_examples_by_their_angle() {
        let mut session = session();
        let (cat, dog) = (session.add_class("cat").unwrap(), session.add_class("dog").unwrap());
        for (number, row) in [[1.0, 0.0], [0.9, 0.1], [0.0, 2.0]].into_iter().enumerate() {
            session.encoded(number, Ok(row.into()));
        }
        session.put(&[0], Some(Place::Class(cat)));
        session.put(&[2], Some(Place::Class(dog)));
        let near = session.neighbours(1, 5);
        assert_eq!(near.iter().map(|near| near.0).collect::<Vec<_>>(), [0, 2]);
        assert!(near[0].1 > 0.99 && near[1].1 < 0.2);
        assert_eq!(session.neighbours(0, 5).len(), 1, "not itself");
    }
}
