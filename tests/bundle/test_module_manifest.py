"""The schema of a module's manifest is the models'."""

from firsttoken.bundle.module_manifest import MODULE_SCHEMA_FILE, module_json_schema


def test_the_schema_file_is_written_anew():
    assert MODULE_SCHEMA_FILE.read_text() == module_json_schema(), "MODULE_SCHEMA_FILE.write_text(module_json_schema())"
