//! Values as programs cache them: names that repeat from one to the next, and contents that hardly do.

use serde::{Deserialize, Serialize};

/// Orders of a document of some 4.3 KB.
pub const ORDERS: usize = 21;

/// A customer with what was ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    id: u64,
    name: String,
    email: String,
    created_at: String,
    is_active: bool,
    balance: f64,
    address: Address,
    labels: Vec<String>,
    orders: Vec<Order>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    street: String,
    city: String,
    postcode: String,
    country: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    order_id: u64,
    product: String,
    description: String,
    quantity: u32,
    price: f64,
    status: String,
    ordered_at: String,
}

const WORDS: [&str; 40] = [
    "hammer", "nail", "copper", "kettle", "lantern", "winter", "river", "garden", "oak", "velvet", "stone", "paper",
    "silver", "mountain", "bridge", "harbour", "meadow", "thread", "candle", "mirror", "engine", "wheel", "basket",
    "bottle", "ladder", "window", "curtain", "pillow", "carpet", "pencil", "folder", "socket", "cable", "filter",
    "valve", "gasket", "spring", "lever", "handle", "bracket",
];

/// Numbers without a pattern that are the same on every run.
struct Numbers(u64);

impl Numbers {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn words(&mut self, count: usize) -> String {
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.below(WORDS.len() as u64) as usize]).collect();
        words.join(" ")
    }

    fn date(&mut self) -> String {
        format!(
            "20{:02}-{:02}-{:02}T{:02}:{:02}:00Z",
            self.below(25),
            1 + self.below(12),
            1 + self.below(28),
            self.below(24),
            self.below(60)
        )
    }
}

impl Document {
    /// The document of that number, with so many orders.
    #[must_use]
    pub fn of(number: u64, orders: usize) -> Self {
        let numbers = &mut Numbers(number);
        let name = numbers.words(2);
        Self {
            id: numbers.next() >> 24,
            email: format!("{}.{}@example.org", name.replace(' ', "."), numbers.below(10_000)),
            name,
            created_at: numbers.date(),
            is_active: numbers.below(2) == 0,
            balance: numbers.below(1_000_000) as f64 / 100.0,
            address: Address {
                street: format!("{} {}", numbers.words(2), numbers.below(300)),
                city: numbers.words(1),
                postcode: format!("{:05}", numbers.below(100_000)),
                country: ["NL", "DE", "FR", "PL"][numbers.below(4) as usize].to_owned(),
            },
            labels: (0..3).map(|_| numbers.words(1)).collect(),
            orders: (0..orders).map(|_| Order::of(numbers)).collect(),
        }
    }
}

impl Order {
    fn of(numbers: &mut Numbers) -> Self {
        Self {
            order_id: numbers.next() >> 16,
            product: numbers.words(2),
            description: numbers.words(6),
            quantity: 1 + numbers.below(20) as u32,
            price: numbers.below(100_000) as f64 / 100.0,
            status: ["open", "paid", "sent", "returned"][numbers.below(4) as usize].to_owned(),
            ordered_at: numbers.date(),
        }
    }
}

/// Text of documents, one after the other, of exactly that length.
#[must_use]
pub fn text(len: usize) -> String {
    let mut text = String::with_capacity(len + 8 * 1024);
    let mut number = 0;
    while text.len() < len {
        number += 1;
        text.push_str(&serde_json::to_string(&Document::of(number, ORDERS)).expect("a document is JSON"));
    }
    // It is ASCII throughout.
    text.truncate(len);
    text
}
