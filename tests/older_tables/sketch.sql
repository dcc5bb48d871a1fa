-- The table of the sketch that this project began with. Its code names these columns and writes UTC into those of workers.
CREATE TABLE PROCESSING_QUEUE (
    id            NUMBER(38, 0) AUTOINCREMENT,
    data          VARIANT,
    status        VARCHAR(50)   DEFAULT 'pending',
    processor_id  VARCHAR(255),
    created_at    TIMESTAMP_LTZ,
    claimed_at    TIMESTAMP_NTZ,
    completed_at  TIMESTAMP_NTZ,
    failed_at     TIMESTAMP_NTZ,
    retry_count   NUMBER(38, 0) DEFAULT 0,
    error_message VARCHAR
);
