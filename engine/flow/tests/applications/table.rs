//! The promises of decoders are tested for each protocol of the table.

use panoptes_records::flow::application::ApplicationProtocol;

use super::properties::READERS;

#[test]
fn each_protocol_of_the_table_has_its_promises() {
    let listed: Vec<&str> = ApplicationProtocol::ALL.iter().map(|it| it.name()).collect();
    assert_eq!(READERS.map(|(name, _)| name).as_slice(), listed);
}
